"""Means of residues: the numbers, the files that keep them, and what models make of them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from common.data.batches import PairData
from common.data.embeddings import means
from common.data.embeddings.means import MeanStore, open_means
from common.data.embeddings.shards import discard_broken_shards, read_shards
from common.data.splits import residue_statistics
from common.training.resume import digest_data
from tests.test_embedding_store import STATES, flip_bit, open_store, write_rows
from tests.test_models import make
from tests.tiny_pairs import make_pairs, one_process


def stored_means(folder: Path, proteins: str = "ABCDE") -> MeanStore:
    """Means of two shards of residues."""
    write_rows(folder, ["AB", "C"])
    return open_means(open_store(write_rows(folder, ["D", "E"]), proteins), one_process())


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def test_a_protein_is_one_row_the_mean_of_its_residues(tmp_path: Path) -> None:
    store = stored_means(tmp_path, "ECA")
    for name in "ECA":
        states = STATES[name].astype(np.float64)
        expected = states.mean(0, keepdims=True)
        np.testing.assert_allclose(store[name], expected, rtol=1e-6)
        assert store[name].dtype == "float32"
        assert store.length(name) == 1
        assert store.residues(name) == len(states)
        np.testing.assert_array_equal(store.sums(name), [states.sum(0), (states**2).sum(0)])
    np.testing.assert_array_equal(store.gather("EA"), np.concatenate([store["E"], store["A"]]))
    with pytest.raises(KeyError):
        store["B"]
    copy = pickle.loads(pickle.dumps(store))  # as for a worker that loads batches
    np.testing.assert_array_equal(copy["A"], store["A"])


def test_sums_are_kept_and_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored_means(tmp_path)
    assert len(files_of(tmp_path)) == 2
    monkeypatch.setattr(means, "add_up", lambda _: pytest.fail("computed again"))
    store = open_store(read_shards(tmp_path)[0], "ABCDE")
    again = open_means(store, one_process())
    for name in STATES:
        np.testing.assert_array_equal(again[name], first[name])


@pytest.mark.parametrize("damage", ["a bit", "another shard's", "nothing in it"])
def test_damaged_sums_are_computed_again(tmp_path: Path, damage: str) -> None:
    right = {name: stored_means(tmp_path)[name].copy() for name in STATES}
    first, second = files_of(tmp_path)
    if damage == "a bit":
        flip_bit(first)
    elif damage == "another shard's":
        shard = first.name.split(".")[0]
        second.rename(first.with_name(f"{shard}.{second.name.split('.')[1]}.npy"))
        first.unlink()
    else:
        first.write_bytes(b"")
    store = open_means(open_store(read_shards(tmp_path)[0], "ABCDE"), one_process())
    for name in STATES:
        np.testing.assert_array_equal(store[name], right[name])


def test_a_read_only_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = open_store(write_rows(tmp_path, ["ABCDE"]), "ABCDE")
    monkeypatch.setattr("common.files._write_through", refuse)
    np.testing.assert_allclose(
        open_means(store, one_process())["C"][0], STATES["C"].astype(float).mean(0), rtol=1e-6
    )
    assert files_of(tmp_path) == []


def test_sums_go_with_their_shard(tmp_path: Path) -> None:
    stored_means(tmp_path)
    shard = sorted(tmp_path.glob("*.arrow"))[0]
    os.truncate(shard, 10)
    discard_broken_shards(tmp_path)
    assert len(files_of(tmp_path)) == 1
    assert not files_of(tmp_path)[0].name.startswith(shard.stem)


@pytest.mark.parametrize("name", ["pooled", "factorised"])
def test_models_score_means_as_they_score_residues(name: str) -> None:
    """The order of the pairs in a batch follows the residues' number in both."""
    data = make_pairs(40, dim=24)
    sums = {protein: data.store.sums(protein) for protein in data.table.proteins}
    mean = PairData(data.table, MeanStore(data.store, sums))
    assert mean.residues.tolist() == data.residues.tolist() == data.protein_lengths.tolist()
    assert set(mean.protein_lengths.tolist()) == {1}
    model, rows = make(name), np.arange(40)
    logits = []
    for each in (data, mean):
        batch = each.collate(rows, total=40)
        with torch.no_grad():
            logits.append(model(batch.proteins, batch.lengths, batch.pairs).logits)
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)
    for one, other in zip(residue_statistics(data), residue_statistics(mean), strict=True):
        assert torch.equal(one, other)


def test_a_run_that_read_residues_is_resumed_with_means() -> None:
    """And a run whose proteins were cut elsewhere is not, though a mean is one row in both."""
    data = make_pairs(40)
    data.store.language_model = "abc"
    sums = {protein: data.store.sums(protein) for protein in data.table.proteins}
    mean = PairData(data.table, MeanStore(data.store, sums))
    assert digest_data({"train": mean}) == digest_data({"train": data})
    mean.residues[0] -= 1
    assert digest_data({"train": mean}) != digest_data({"train": data})
