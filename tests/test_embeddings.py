"""The cache holds the states of exactly what is asked for, however its building was interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator

from common.config_data import EmbeddingsConfig
from common.data.embeddings import fill, store_lock
from common.data.embeddings.build import EmbeddingStore, prepare_store
from common.data.embeddings.claims import Claim
from common.data.embeddings.fill import Cache, Foreman
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import locate_model
from common.data.embeddings.plan import make_requests, plan_batches
from common.data.embeddings.shards import read_shards
from common.errors import UserError
from tests.same_run import assert_same_store
from tests.tiny_esm import DIM, MAX_LENGTH, SEQUENCES, Log, record_log, save_tiny_esm


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_esm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def one_by_one(tiny: Path) -> dict[str, torch.Tensor]:
    """Every protein's states, computed on its own."""
    model = LanguageModel.load(
        locate_model(EmbeddingsConfig(model_name=str(tiny))), -1, torch.device("cpu")
    )
    return {name: model.residue_states([text])[0] for name, text in SEQUENCES.items()}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=not torch.cuda.is_available())


@pytest.fixture
def settings(tiny: Path, tmp_path: Path) -> EmbeddingsConfig:
    return EmbeddingsConfig(
        model_name=str(tiny), cache_dir=str(tmp_path / "cache"), tokens_per_batch=512
    )


@pytest.fixture
def log() -> Iterator[Log]:
    with record_log() as handler:
        yield handler


def cache_directory(settings: EmbeddingsConfig) -> Path:
    (directory,) = (path for path in Path(settings.cache_dir).iterdir() if path.is_dir())
    return directory


def contents(store: EmbeddingStore) -> dict[str, bytes]:
    return {name: store[name].tobytes() for name in store}


def changed(settings: EmbeddingsConfig, **changes: Any) -> EmbeddingsConfig:
    return settings.model_copy(update=changes)


def flush_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "PIECE_SECONDS", 0.0)


# ------------------------------------------------------------------------- what is stored


def test_states_are_those_of_each_protein_alone(
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    one_by_one: Mapping[str, torch.Tensor],
    log: Log,
) -> None:
    store = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    assert set(store) == set(SEQUENCES)
    assert store.dim == DIM
    for name, expected in one_by_one.items():
        assert store[name].dtype == "float16"
        assert store.length(name) == len(SEQUENCES[name])
        np.testing.assert_allclose(store[name], expected.numpy(), atol=2e-3, rtol=2e-3)
    residues = sum(map(len, SEQUENCES.values()))
    expected_line = {"proteins": "40", "computed": "40", "residues": str(residues)}
    assert log.ready().items() >= expected_line.items()
    table = datasets.load_from_disk(str(cache_directory(settings)))
    assert sorted(table["id"]) == sorted(SEQUENCES)


def test_float32_is_stored_unrounded(
    settings: EmbeddingsConfig, accelerator: Accelerator, one_by_one: Mapping[str, torch.Tensor]
) -> None:
    store = prepare_store(SEQUENCES, changed(settings, dtype="float32"), MAX_LENGTH, accelerator)
    for name, expected in one_by_one.items():
        np.testing.assert_allclose(store[name], expected.numpy(), atol=1e-5, rtol=1e-5)


def test_long_sequences_are_cut_and_counted(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    long = SEQUENCES["P0"] * 9
    store = prepare_store(
        {"long": long, "same start": long[:100], "short": "MK"}, settings, 100, accelerator
    )
    assert (store.length("long"), store.length("short")) == (100, 2)
    np.testing.assert_array_equal(store["long"], store["same start"])
    assert log.ready()["truncated"] == "1"
    assert log.computed() == 2


def test_case_does_not_matter_and_equal_sequences_share_a_row(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    store = prepare_store({"a": "mktay", "b": "MKTAY"}, settings, MAX_LENGTH, accelerator)
    assert np.shares_memory(store["a"], store["b"])
    assert (len(store), log.computed()) == (2, 1)
    assert datasets.load_from_disk(str(cache_directory(settings)))["id"][:] == ["a"]


# ------------------------------------------------------------------------- what is computed again


def test_a_complete_cache_needs_neither_model_nor_lock(
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("loads the model"))
    monkeypatch.setattr(store_lock, "FileLock", lambda *_: pytest.fail("takes the lock"))
    store = prepare_store(dict(list(SEQUENCES.items())[:3]), settings, MAX_LENGTH, accelerator)
    assert log.computed() == 0
    assert contents(store) == {name: contents(first)[name] for name in ("P0", "P1", "P2")}


def test_only_new_and_changed_sequences_are_computed(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    before = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    now = SEQUENCES | {"P1": SEQUENCES["P1"] + "W", "new": "MKTAYIAK"}
    store = prepare_store(now, settings, MAX_LENGTH, accelerator)
    assert log.computed() == 2
    assert store.length("P1") == before.length("P1") + 1
    assert {"P1"} == {n for n in before if store[n].tobytes() != before[n].tobytes()}


@pytest.mark.parametrize(
    "change", [{"dtype": "float32"}, {"layer": 1}, {"model_name": "other"}, {"length": 99}]
)
def test_two_settings_never_mix(
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    log: Log,
    change: dict[str, Any],
    tmp_path: Path,
) -> None:
    sequences = {"P0": SEQUENCES["P0"]}
    first = prepare_store(sequences, settings, MAX_LENGTH, accelerator)
    length = change.pop("length", MAX_LENGTH)
    if "model_name" in change:
        # The same name and other weights.
        other = save_tiny_esm(tmp_path / "other" / Path(settings.model_name).name, seed=1)
        change = {"model_name": str(other)}
    store = prepare_store(sequences, changed(settings, **change), length, accelerator)
    assert log.computed() == 1
    assert len([path for path in Path(settings.cache_dir).iterdir() if path.is_dir()]) == 2
    assert (store["P0"].tobytes() == first["P0"].tobytes()) == (length == 99)


def test_a_moved_local_model_keeps_its_cache(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log, tmp_path: Path
) -> None:
    prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    moved = shutil.copytree(settings.model_name, tmp_path / "elsewhere" / "tiny")
    prepare_store(SEQUENCES, changed(settings, model_name=str(moved)), MAX_LENGTH, accelerator)
    assert log.computed() == 0


@pytest.mark.parametrize("damage", ["delete", "delete sidecar", "flip bit"])
def test_a_lost_or_damaged_shard_is_rebuilt_and_nothing_else(
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    log: Log,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flush_every_batch(monkeypatch)
    before = contents(prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator))
    directory = cache_directory(settings)
    whole, _ = read_shards(directory)
    assert len(whole) > 3
    victim = whole[1]
    if damage == "delete":
        victim.path.unlink()
    elif damage == "delete sidecar":
        victim.path.with_suffix(".json").unlink()
    else:
        with victim.path.open("r+b") as file:
            file.seek(victim.bytes // 2)
            (byte,) = file.read(1)
            file.seek(victim.bytes // 2)
            file.write(bytes([byte ^ 1]))
        os.utime(victim.path)
    store = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    assert log.computed() == victim.rows
    # The batches are others now, and with them the rounding.
    for name, states in before.items():
        again = np.frombuffer(states, np.float16).reshape(-1, DIM)
        np.testing.assert_allclose(store[name], again, atol=2e-3, rtol=2e-3)
    reason = {"delete": "file missing", "delete sidecar": "no sidecar"}
    expected = (
        f"embedding_shard_rebuilt | shard={victim.path.name}"
        f" | reason={reason.get(damage, 'checksum differs')}"
    )
    assert expected in log.lines
    assert len(datasets.load_from_disk(str(directory))) == len(SEQUENCES)


# ------------------------------------------------------------------------- what is refused


def cut_off(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Embedding stops, as if killed, after so many batches."""
    flush_every_batch(monkeypatch)
    embed = fill._embed_batch
    done: list[int] = []

    def embed_some(*arguments: Any) -> Any:
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(1)
        return embed(*arguments)

    monkeypatch.setattr(fill, "_embed_batch", embed_some)


@pytest.mark.parametrize("stops", [[3], [1, 2, 5]])
def test_a_run_cut_off_and_resumed_gives_the_same_bits(
    stops: list[int],
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Batches over what is missing are those that were planned over all."""
    exact = changed(settings, dtype="float32", tokens_per_batch=150)
    for batches in stops:
        with monkeypatch.context() as patch:
            cut_off(patch, batches)
            with pytest.raises(KeyboardInterrupt):
                prepare_store(SEQUENCES, exact, MAX_LENGTH, accelerator)
    store = contents(prepare_store(SEQUENCES, exact, MAX_LENGTH, accelerator))
    whole = changed(exact, cache_dir=str(tmp_path / "whole"))
    assert store == contents(prepare_store(SEQUENCES, whole, MAX_LENGTH, accelerator))
    assert_same_store(Path(exact.cache_dir), Path(whole.cache_dir))


def test_a_lower_budget_holds_for_what_a_cut_off_run_left(
    settings: EmbeddingsConfig, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lowers it after running out of memory does not want the old batches."""
    with monkeypatch.context() as patch:
        cut_off(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    sizes = []
    with monkeypatch.context() as patch:
        embed = fill._embed_batch
        patch.setattr(
            fill,
            "_embed_batch",
            lambda *given: sizes.append(len(given[-1])) or embed(*given),  # type: ignore[func-returns-value]
        )
        lower = changed(settings, tokens_per_batch=60)
        assert set(prepare_store(SEQUENCES, lower, MAX_LENGTH, accelerator)) == set(SEQUENCES)
    assert max(sizes) * 5 < 60


def test_a_run_cut_off_after_its_last_shard_is_brought_to_its_end(
    settings: EmbeddingsConfig, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fill, "write_dataset_files", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    (cache_directory(settings) / ".rest.tmp").write_bytes(b"half a shard")
    prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    assert not list(cache_directory(settings).glob(".*"))
    assert len(datasets.load_from_disk(str(cache_directory(settings)))) == len(SEQUENCES)


def test_too_long_for_absolute_positions(
    settings: EmbeddingsConfig, accelerator: Accelerator, tmp_path: Path
) -> None:
    absolute = save_tiny_esm(tmp_path / "absolute", position_embedding_type="absolute")
    with pytest.raises(UserError, match=r"data_config\.max_sequence_length is 127.* at most 126"):
        prepare_store(SEQUENCES, changed(settings, model_name=str(absolute)), 127, accelerator)
    assert not [path for path in Path(settings.cache_dir).glob("*") if path.is_dir()]


def test_longer_than_rotary_positions_were_trained_for(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    """ESM-2 takes proteins of any length; a limit of 1,022 residues was wrongly enforced."""
    sequences = {"longest": "MKTAYIAKQR" * 30, "long": "M" * 127, "fits": "K" * 126}
    store = prepare_store(sequences, settings, 200, accelerator)
    assert [store.length(name) for name in sequences] == [200, 127, 126]
    model = LanguageModel.load(locate_model(settings), -1, torch.device("cpu"))
    alone = model.residue_states([sequences["longest"][:200]])[0].numpy()
    np.testing.assert_allclose(store["longest"], alone, atol=2e-3, rtol=2e-3)
    warning = "sequences_longer_than_trained_on | sequences=2 | longest=200 | trained_up_to=126"
    assert warning in log.lines


def test_too_little_disk_is_reported_before_work_starts(
    settings: EmbeddingsConfig, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = sum(map(len, SEQUENCES.values())) * DIM * 2
    usage = SimpleNamespace(free=values - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(fill, "_embed", lambda *_: pytest.fail("starts to compute"))
    with pytest.raises(UserError, match=rf"need \d+ bytes in .*only {usage.free} bytes"):
        prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)


@pytest.mark.parametrize(("factor", "reason"), [(float("nan"), "not finite"), (1e6, "float32")])
def test_states_that_cannot_be_stored_name_the_protein_and_keep_the_others(
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    reason: str,
) -> None:
    good = LanguageModel.residue_states

    def spoil(model: LanguageModel, sequences: list[str]) -> list[torch.Tensor]:
        states = good(model, sequences)
        return [
            s * factor if text == "MKTAY" else s for text, s in zip(sequences, states, strict=True)
        ]

    monkeypatch.setattr(LanguageModel, "residue_states", spoil)
    with pytest.raises(UserError, match=f"states of bad .*{reason}"):
        prepare_store(SEQUENCES | {"bad": "MKTAY"}, settings, MAX_LENGTH, accelerator)
    monkeypatch.undo()
    prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    assert log.computed() < len(SEQUENCES) / 2


@pytest.mark.parametrize("sequences", [{}, {"P1": "MK", "P2": ""}])
def test_nothing_to_embed(
    settings: EmbeddingsConfig, accelerator: Accelerator, sequences: dict[str, str]
) -> None:
    with pytest.raises(UserError, match=r"no proteins|P2 is empty"):
        prepare_store(sequences, settings, MAX_LENGTH, accelerator)


def test_a_cache_directory_that_cannot_be_made(
    settings: EmbeddingsConfig, accelerator: Accelerator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    blocked = changed(settings, cache_dir=str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"data_config\.embeddings\.cache_dir"):
        prepare_store(SEQUENCES, blocked, MAX_LENGTH, accelerator)


# ------------------------------------------------------------------------- batches and pieces


def pieces(cache: Cache, dim: int, seconds: float) -> list[list[list[str]]]:
    """The batches of each piece when every piece takes so long."""
    wanted = {request.sequence_hash: request for request in make_requests(SEQUENCES, MAX_LENGTH)}
    model: Any = SimpleNamespace(special_tokens=2, dim=dim)
    clock, stored, found = [0.0], set[str](), []
    with pytest.MonkeyPatch.context() as patch, Claim(cache.directory) as claim:
        patch.setattr(fill, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        patch.setattr(fill, "stored_hashes", lambda shards: stored)
        foreman = Foreman(cache, wanted, claim)
        while (piece := foreman.next_piece(model, 0)).residues_left:
            found.append(piece.batches)
            stored.update(key for batch in piece.batches for key in batch)
            clock[0] += seconds
    return found


def test_pieces_grow_until_they_last_half_a_minute_or_fill_a_shard(
    settings: EmbeddingsConfig, tmp_path: Path
) -> None:
    two: Any = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    float32: Any = SimpleNamespace(dtype="float32", max_length=MAX_LENGTH)
    small = changed(settings, tokens_per_batch=100, shard_mib=1)
    requests = make_requests(SEQUENCES, MAX_LENGTH)
    lengths = {request.sequence_hash: len(request.residues) for request in requests}
    planned = [[r.sequence_hash for r in batch] for batch in plan_batches(requests, 100, 2, 100)]

    def cut(dim: int, seconds: float) -> list[list[list[str]]]:
        found = pieces(Cache(tmp_path, float32, float32, small, two), dim, seconds)
        assert [batch for piece in found for batch in piece] == planned
        return found

    assert [len(piece) for piece in cut(1, 29.0)] == [2, 4, 8, len(planned) - 14]
    assert {len(piece) for piece in cut(1, 31.0)[:-1]} == {2}
    # Two shards of 1 MiB have room for a third of the residues.
    dim = 3 * 2 * 2**20 // (4 * sum(lengths.values()))
    sizes = [sum(lengths[key] for batch in piece for key in batch) for piece in cut(dim, 1.0)]
    assert max(sizes) <= 2 * 2**20 // (4 * dim) < max(sizes) + 100
    assert len(sizes) == 5


def test_batches_keep_to_the_token_budget() -> None:
    requests = make_requests(SEQUENCES, MAX_LENGTH)
    batches = plan_batches(requests, tokens_per_batch=200, special_tokens=2, window=100)
    lengths = [len(request.residues) for batch in batches for request in batch]
    assert lengths == sorted(map(len, SEQUENCES.values()), reverse=True)
    for batch in batches:
        width = len(batch[0].residues) + 2
        assert len(batch) * width <= 200
        # Full: one more would not fit.
        assert (len(batch) + 1) * width > 200 or batch is batches[-1]
    assert plan_batches(requests[::-1], 200, 2, 100) == batches
    assert [len(batch) for batch in plan_batches(requests[:3], 1, 2, 100)] == [1, 1, 1]
