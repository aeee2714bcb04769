"""Shards are written whole, checked before use, and read without copying."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from common.data.embeddings import shards as embedding_shards
from common.data.embeddings.shards import (
    Embedding,
    Row,
    Shard,
    ShardWriter,
    StoreIdentity,
    discard_broken_shards,
    read_shards,
    write_dataset_files,
)
from common.data.embeddings.store import EmbeddingStore, stored_hashes
from common.data.embeddings.store_lock import lock_store
from common.errors import UserError
from common.files import hash_file

DIM = 4
STATES: dict[str, Embedding] = {
    name: np.random.default_rng(seed).normal(size=(length, DIM)).astype("float16")
    for seed, (name, length) in enumerate({"A": 3, "B": 1, "C": 7, "D": 2, "E": 5}.items())
}


def write_rows(directory: Path, groups: Sequence[str]) -> list[Shard]:
    """Store the proteins of each group as one batch; returns the shards that count then."""
    with ShardWriter(directory) as writer:
        for group in groups:
            writer.add([Row(name, f"hash-{name}", STATES[name]) for name in group])
    return read_shards(directory)[0]


def open_store(shards: Sequence[Shard], proteins: str) -> EmbeddingStore:
    return EmbeddingStore(shards, "float16", {name: f"hash-{name}" for name in proteins})


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_time_stamp(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_reads_what_was_written_over_several_shards_and_batches(tmp_path: Path) -> None:
    first = write_rows(tmp_path, ["AB", "C"])
    shards = write_rows(tmp_path, ["D", "E"])
    assert (len(first), len(shards)) == (1, 2)
    store = open_store(shards, "ECADB")
    for name, states in STATES.items():
        np.testing.assert_array_equal(store[name], states)
        assert store.length(name) == len(states)
    assert (store.dim, len(store), list(store)) == (DIM, 5, list("ECADB"))
    assert "A" in store
    assert "Z" not in store


def test_holds_only_the_proteins_asked_for(tmp_path: Path) -> None:
    shards = write_rows(tmp_path, ["ABC"])
    store = open_store(shards, "C")
    assert list(store) == ["C"]
    with pytest.raises(KeyError):
        store["A"]
    with pytest.raises(KeyError):
        open_store(shards, "CD")


def test_views_share_the_mapped_memory_and_are_read_only(tmp_path: Path) -> None:
    store = open_store(write_rows(tmp_path, ["AC"]), "AC")
    view = store["C"]
    assert np.shares_memory(view, store["C"])
    # C follows A in the same buffer.
    assert view.ctypes.data == store["A"].ctypes.data + STATES["A"].nbytes
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 0
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "data-" in line]
    bounds = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
    assert any(low <= view.ctypes.data < high for low, high in bounds)


def _check_in_process(store: EmbeddingStore, results: multiprocessing.Queue[bool]) -> None:
    results.put(all(np.array_equal(store[name], STATES[name]) for name in store))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_works_in_worker_processes(tmp_path: Path, method: str) -> None:
    store = open_store(write_rows(tmp_path, ["AB", "CDE"]), "BDE")
    context: Any = multiprocessing.get_context(method)
    results: multiprocessing.Queue[bool] = context.Queue()
    worker = context.Process(target=_check_in_process, args=(store, results))
    worker.start()
    assert results.get(timeout=60)
    worker.join()


def test_pickle_holds_no_embeddings(tmp_path: Path) -> None:
    write_rows(tmp_path, ["ABCDE"])
    large = np.ones((10_000, DIM), "float16")
    with ShardWriter(tmp_path) as writer:
        writer.add([Row("L", "hash-L", large)])
    store = open_store(read_shards(tmp_path)[0], "CL")
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000 < large.nbytes
    np.testing.assert_array_equal(pickle.loads(pickled)["C"], STATES["C"])


def test_datasets_opens_the_directory(tmp_path: Path) -> None:
    write_rows(tmp_path, ["AB"])
    write_dataset_files(tmp_path, write_rows(tmp_path, ["C"]))
    table = datasets.load_from_disk(str(tmp_path))
    assert table.features == datasets.Features(
        {
            "id": datasets.Value("string"),
            "sequence_hash": datasets.Value("string"),
            "length": datasets.Value("int32"),
            "embedding": datasets.Value("large_binary"),
        }
    )
    rows = {row["id"]: row for row in table}
    assert {name: row["length"] for name, row in rows.items()} == {"A": 3, "B": 1, "C": 7}
    assert rows["B"]["embedding"] == STATES["B"].tobytes()


def test_a_shard_counts_once_its_writer_is_left(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.add([Row("A", "hash-A", STATES["A"])])
        assert read_shards(tmp_path) == ([], {})
    assert stored_hashes(read_shards(tmp_path)[0]) == {"hash-A"}


def test_temporary_files_of_live_owners_stay(tmp_path: Path) -> None:
    for owner in ("alive", "dead"):
        (tmp_path / f".{owner}.0123.tmp").touch()
    discard_broken_shards(tmp_path, live={"alive"})
    assert [path.name for path in tmp_path.iterdir()] == [".alive.0123.tmp"]


def test_rows_added_before_an_error_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path) as writer:  # noqa: PT012
        writer.add([Row("A", "hash-A", STATES["A"])])
        raise ZeroDivisionError
    assert stored_hashes(read_shards(tmp_path)[0]) == {"hash-A"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Half a record batch in a completed shard would be read as numbers."""

    def fail(rows: object) -> None:
        raise error

    with pytest.raises((UserError, KeyboardInterrupt)) as raised:  # noqa: SIM117, PT012
        with ShardWriter(tmp_path) as writer:
            writer.add([Row("A", "hash-A", STATES["A"])])
            monkeypatch.setattr(embedding_shards, "_to_record_batch", fail)
            writer.add([Row("B", "hash-B", STATES["B"])])
    assert list(tmp_path.iterdir()) == []
    if raised.type is UserError:
        assert str(tmp_path) in str(raised.value)
        assert "No space left on device" in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_bit, "checksum differs"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "bytes instead of"),
        (lambda path: path.unlink(), "file missing"),
        (lambda path: path.with_suffix(".json").write_text("{"), "sidecar unreadable"),
        (lambda path: path.with_suffix(".json").unlink(), "no sidecar"),
    ],
)
def test_a_broken_shard_is_discarded_and_the_others_stay(
    tmp_path: Path, damage: object, reason: str
) -> None:
    (broken,) = write_rows(tmp_path, ["A"])
    write_rows(tmp_path, ["B"])
    (tmp_path / ".0123.tmp").write_bytes(b"left by a killed run")
    assert callable(damage)
    damage(broken.path)
    with lock_store(tmp_path):
        _, reasons = discard_broken_shards(tmp_path)
    assert list(reasons) == [broken.path]
    assert reason in reasons[broken.path]
    shards, still_broken = read_shards(tmp_path)
    assert (stored_hashes(shards), still_broken) == ({"hash-B"}, {})
    assert {path.suffix for path in tmp_path.iterdir()} == {".arrow", ".json", ".lock"}


def test_a_shard_without_sidecar_is_left_alone_by_readers(tmp_path: Path) -> None:
    """It may be a moment away from completion by another run."""
    (shard,) = write_rows(tmp_path, ["A"])
    shard.path.with_suffix(".json").unlink()
    assert read_shards(tmp_path) == ([], {})
    assert shard.path.exists()


def test_a_copied_shard_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = write_rows(tmp_path, ["A"])
    change_time_stamp(shard.path)
    verified: list[Path] = []

    def record(path: Path) -> str:
        verified.append(path)
        return hash_file(path)

    monkeypatch.setattr(embedding_shards, "hash_file", record)
    for _ in range(3):
        assert len(read_shards(tmp_path)[0]) == 1
    assert verified == [shard.path]


def test_identity_decides_the_directory() -> None:
    identity = StoreIdentity("facebook/esm2_t33_650M_UR50D", None, "0f", -1, "float16", 1000)
    assert identity.directory_name.startswith("facebook-esm2-t33-650m-ur50d-")
    changes: list[dict[str, object]] = [
        {"model_name": "facebook/esm2-t33-650M-UR50D"},
        {"revision": "main"},
        {"weights_hash": "00"},
        {"layer": 33},
        {"dtype": "float32"},
        {"max_length": 999},
        {"long": "windows"},
    ]
    names = {dataclasses.replace(identity, **change).directory_name for change in changes}  # type: ignore[arg-type]
    assert len(names | {identity.directory_name}) == len(changes) + 1


def test_the_sidecar_describes_the_shard(tmp_path: Path) -> None:
    (shard,) = write_rows(tmp_path, ["AB", "C"])
    sidecar = json.loads(shard.path.with_suffix(".json").read_text())
    assert sidecar["rows"] == 3
    assert sidecar["dim"] == DIM
    assert sidecar["bytes"] == shard.path.stat().st_size
    assert shard.path.name == f"data-{sidecar['checksum']}.arrow"
