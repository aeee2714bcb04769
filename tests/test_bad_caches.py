"""Bad caches and model directories: a changed shard is never read, a changed cache is made anew.

Caches are the program's own: what is damaged in them is not refused but found and left out, so
that it is computed again. Cases: shards 200, whole caches of embeddings
25, caches of parsed texts 160, model directories 240 (`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config_data import EmbeddingsConfig
from common.data.embeddings.build import prepare_store
from common.data.embeddings.model_files import ModelFiles, hash_model, locate_model, residue_limit
from common.data.embeddings.shards import (
    Row,
    ShardWriter,
    discard_broken_shards,
    read_shards,
)
from common.data.embeddings.store import EmbeddingStore, stored_hashes
from common.data.tables.fasta import read_sequences
from common.data.tables.pairs import read_pairs
from common.files import hash_file
from tests.bad_input import Refused, assert_tried, attempt, cases, flip_bit
from tests.tiny_esm import MAX_LENGTH, SEQUENCES, save_tiny_esm
from tests.tiny_pairs import one_process

DIM = 4
STATES = {
    name: np.random.default_rng(length).normal(size=(length, DIM)).astype(np.float16)
    for name, length in {"A": 3, "B": 1, "C": 7, "D": 2, "E": 5}.items()
}

Files = dict[Path, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


def files_of(folder: Path) -> Files:
    """The content of every file, by its path in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def restore(folder: Path, files: Files) -> None:
    """The folder with these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes | None]:
    """Ways in which a file changes; None where it goes away."""
    part = draw(st.floats(0, 1, exclude_max=True))
    junk = draw(st.binary(min_size=1, max_size=8))

    def at(content: bytes) -> int:
        return int(part * len(content))

    change: Callable[[bytes], bytes | None] = draw(
        st.sampled_from(
            [
                lambda content: content and flip_bit(content, int(8 * part * len(content))),
                lambda content: content[: at(content)],
                lambda content: content[: at(content)] + junk + content[at(content) :],
                lambda content: content[: at(content)] + junk + content[at(content) + len(junk) :],
                lambda content: content + junk,
                lambda content: None,
            ]
        )
    )
    return change


def apply(change: Callable[[bytes], bytes | None], files: Files, path: Path) -> Files:
    changed = change(files[path])
    rest = {name: content for name, content in files.items() if name != path}
    return rest if changed is None else {**rest, path: changed}


# Shards


@pytest.fixture(scope="module")
def shards(folder: Path) -> tuple[Path, Files]:
    """A store of two shards, as its files."""
    store = folder / "store"
    store.mkdir()
    for group in ("AB", "CDE"):
        with ShardWriter(store) as writer:
            writer.add([Row(name, f"hash-{name}", STATES[name]) for name in group])
    return store, files_of(store)


def readable(store: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All states that the usable shards of a store give."""
    usable = read_shards(store)[0]
    if not usable:
        return {}
    names = {key.removeprefix("hash-"): key for key in stored_hashes(usable)}
    opened = EmbeddingStore(usable, "float16", names)
    return {name: np.array(opened[name]) for name in opened}


@cases(200)
@given(st.lists(st.tuples(st.integers(0, 3), changes()), min_size=1, max_size=2))
def test_states_come_from_unchanged_shards_only(
    shards: tuple[Path, Files], damage: list[tuple[int, Any]]
) -> None:
    store, files = shards
    after = files
    for number, change in damage:
        path = sorted(files)[number]
        after = apply(change, after, path) if path in after else after
    restore(store, after)
    found = attempt("shards", lambda: readable(store), store)
    assert not isinstance(found, Refused)
    whole = [path for path in files if path.suffix == ".arrow" and intact(path, after, files)]
    expected = {name for path in whole for name in ("AB" if holds_a(files[path]) else "CDE")}
    assert found.keys() == expected
    assert all(np.array_equal(found[name], STATES[name]) for name in found)
    discard_broken_shards(store)
    assert {Path(path.name) for path in store.glob("*.arrow")} == set(whole)
    assert readable(store).keys() == expected


def intact(path: Path, after: Files, before: Files) -> bool:
    """Whether a shard and what its sidecar says are as they were."""
    sidecar = path.with_suffix(".json")
    if after.get(path) != before[path] or sidecar not in after:
        return False
    try:
        return bool(json.loads(after[sidecar]) == json.loads(before[sidecar]))
    except ValueError:
        return False


def holds_a(shard: bytes) -> bool:
    return b"hash-A" in shard


@pytest.mark.parametrize("dim", [1, 2, 8])
def test_a_changed_width_in_a_sidecar_is_noticed(shards: tuple[Path, Files], dim: int) -> None:
    """It was believed: the states came cut into twice as many residues of half the width."""
    store, files = shards
    restore(store, files)
    for sidecar in store.glob("*.json"):
        stamp = sidecar.with_suffix(".arrow").stat().st_mtime_ns
        content = {**json.loads(sidecar.read_text()), "dim": dim, "mtime_ns": stamp}
        sidecar.write_text(json.dumps(content))
    assert read_shards(store)[0] == []


def test_a_sidecar_cannot_exhaust_the_stack(shards: tuple[Path, Files]) -> None:
    """A sidecar of brackets was a RecursionError."""
    store, files = shards
    deep = {path: b"[" * 100_000 for path in files if path.suffix == ".json"}
    restore(store, files | deep)
    assert set(read_shards(store)[1].values()) == {"sidecar unreadable"}


# The whole cache


@pytest.fixture(scope="module")
def embedded(folder: Path) -> tuple[EmbeddingsConfig, Files, dict[str, bytes]]:
    """A complete cache of a tiny language model: settings, files, and the states in it."""
    model = save_tiny_esm(folder / "esm")
    settings = EmbeddingsConfig(model_name=str(model), cache_dir=str(folder / "embeddings"))
    store = prepare_store(SEQUENCES, settings, MAX_LENGTH, one_process())
    return (
        settings,
        files_of(folder / "embeddings"),
        {name: store[name].tobytes() for name in store},
    )


@cases(25)
@given(st.data(), changes())
def test_a_damaged_cache_of_embeddings_gives_the_same_states(
    embedded: tuple[EmbeddingsConfig, Files, dict[str, bytes]], data: st.DataObject, change: Any
) -> None:
    settings, files, states = embedded
    restore(
        Path(settings.cache_dir), apply(change, files, data.draw(st.sampled_from(sorted(files))))
    )
    cache = Path(settings.cache_dir)
    store = attempt(
        "embedding caches",
        lambda: prepare_store(SEQUENCES, settings, MAX_LENGTH, one_process()),
        cache,
    )
    assert not isinstance(store, Refused)
    assert {name: store[name].tobytes() for name in store} == states


@pytest.fixture(scope="module")
def parsed(folder: Path) -> tuple[Path, Files, Any]:
    """A benchmark's text files with the data sets they were parsed to."""
    benchmark = folder / "benchmark"
    benchmark.mkdir()
    (benchmark / "pairs.txt").write_text("P1\tP2\t1\nP3\tP2\t0\nP1\tP1\t1\n")
    (benchmark / "s.fasta").write_text(">P1\nACDE\n>P2\nMKV\n")
    return benchmark, *(lambda read: (files_of(benchmark / "cache"), read))(read_texts(benchmark))


def read_texts(benchmark: Path) -> Any:
    cache = benchmark / "cache"
    table = read_pairs(benchmark / "pairs.txt", cache)
    sequences = read_sequences(benchmark / "s.fasta", cache)
    return table.proteins, table.pairs.tolist(), table.labels.tolist(), sequences


@cases(80)
@given(st.data(), changes())
def test_a_damaged_cache_of_texts_gives_the_same_rows(
    parsed: tuple[Path, Files, Any], data: st.DataObject, change: Any
) -> None:
    """From a flipped bit Arrow read other rows, or took the process down with it."""
    benchmark, files, rows = parsed
    restore(benchmark / "cache", apply(change, files, data.draw(st.sampled_from(sorted(files)))))
    assert attempt("text caches", lambda: read_texts(benchmark), benchmark / "cache") == rows
    assert attempt("text caches", lambda: read_texts(benchmark), benchmark / "cache") == rows


# Model directories

json_values = st.recursive(
    st.sampled_from(
        [None, True, 0, 1, 2, 1026, -5, 0.5, 10**30, "", "esm", "a.bin", "../x", "a\0"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b", "weight_map", "model_type"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@cases(100)
@given(json_values, json_values, json_values)
def test_any_model_config_gives_a_limit_or_none(
    folder: Path, kind: Any, positions: Any, padding: Any
) -> None:
    """A `pad_token_id` in words was a TypeError."""
    path = folder / "model"
    path.mkdir(exist_ok=True)
    fields = {"model_type": kind, "max_position_embeddings": positions, "pad_token_id": padding}
    (path / "config.json").write_text(json.dumps(fields))
    limit = attempt("model files", lambda: residue_limit(ModelFiles(path, ()).config()), path)
    if type(positions) is not int:
        assert limit is None
    elif kind != "esm":
        assert limit == positions - 2
    else:
        assert limit == positions - 3 - (padding if type(padding) is int else 0)


@cases(80)
@given(json_values, st.sampled_from([b"", b"{", b"[" * 50_000, b"\xff", b"null", None]))
def test_an_index_that_names_no_weights_is_refused(
    folder: Path, index: Any, raw: bytes | None
) -> None:
    """A `weight_map` that is no section was an AttributeError, a number in it a TypeError."""
    path = folder / "indexed"
    path.mkdir(exist_ok=True)
    (path / "a.bin").write_bytes(b"weights")
    content = raw if raw is not None else json.dumps({"weight_map": index}).encode()
    (path / "model.safetensors.index.json").write_bytes(content)
    settings = EmbeddingsConfig(model_name=str(path))
    located = attempt("model files", lambda: locate_model(settings), path)
    names = set(index.values()) if raw is None and is_flat(index) else set()
    if names == {"a.bin"}:
        assert not isinstance(located, Refused)
        assert located.weights == (path / "a.bin",)
    else:
        assert isinstance(located, Refused)


def is_flat(index: Any) -> bool:
    return isinstance(index, dict) and all(isinstance(name, str) for name in index.values())


@cases(60)
@given(json_values, st.booleans(), st.sampled_from([b"", b"[" * 50_000, b"\xff\xfe", None]))
def test_remembered_hashes_are_used_only_where_they_are_some(
    folder: Path, entry: Any, right_stamp: bool, raw: bytes | None
) -> None:
    """An entry of `model_hashes.json` that was a number, or empty, ended the run."""
    path, cache = folder / "hashed", folder / "hashes"
    path.mkdir(exist_ok=True)
    weights = path / "model.safetensors"
    weights.write_bytes(b"weights")
    files = ModelFiles(path, (weights,))
    shutil.rmtree(cache, ignore_errors=True)
    expected = hash_model(files, cache)
    stamp = [weights.stat().st_size, weights.stat().st_mtime_ns]
    remembered = {str(weights.resolve()): [*stamp, entry] if right_stamp else entry}
    content = raw if raw is not None else json.dumps(remembered).encode()
    (cache / "model_hashes.json").write_bytes(content)
    found = attempt("model files", lambda: hash_model(files, cache), path)
    # A text beside the right size and time stamp is what a hash looks like.
    if not (raw is None and right_stamp and isinstance(entry, str)):
        assert found == expected
        assert hash_file(weights) in (cache / "model_hashes.json").read_text()


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(
        request,
        {"shards": 200, "embedding caches": 25, "text caches": 160, "model files": 240},
    )
