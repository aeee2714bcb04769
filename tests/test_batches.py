"""What batches guarantee, whatever way they are planned: what is in them, once, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common.config import TrainingConfig
from common.config_data import DataloaderConfig, SamplingConfig
from common.data.batches import (
    STAND_IN,
    BatchPlanner,
    PairBatch,
    PairData,
    RankBatches,
)
from common.data.tables.pairs import PairTable
from common.errors import UserError
from tests.tiny_pairs import MemoryStore, make_pairs, whole_batch

SIZES = [3, 8, 75, 97, 300]


def plan(
    data: PairData,
    batch_size: int = 8,
    accumulation: int = 1,
    processes: int = 1,
    seed: int = 47,
    drop_last: bool = False,
    **sampling: Any,
) -> BatchPlanner:
    loading = DataloaderConfig(drop_last=drop_last, sampling=SamplingConfig(**sampling))
    training = TrainingConfig(batch_size=batch_size, gradient_accumulation_steps=accumulation)
    return BatchPlanner.from_settings(data, loading, training, processes, seed)


def ohem(**settings: Any) -> dict[str, Any]:
    return {"strategy": "ohem", "min_keep": 1, **settings}


def rows_of(planner: BatchPlanner, epoch: int) -> list[list[int]]:
    return [rows.tolist() for rows in planner.rounds(epoch)]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("mining", [False, True])
def test_an_epoch_has_every_pair_once(count: int, accumulation: int, mining: bool) -> None:
    settings = ohem(warmup_epochs=0, pool_multiplier=3) if mining else {}
    planner = plan(make_pairs(count), accumulation=accumulation, **settings)
    for epoch in (0, 1):
        rows = [row for rows in rows_of(planner, epoch) for row in rows]
        assert sorted(rows) == list(range(count))


@pytest.mark.parametrize("count", [*SIZES, 25, 26])
@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("settings", [{}, ohem(warmup_epochs=1, pool_multiplier=2)])
def test_rounds_are_a_multiple_of_the_accumulation_and_none_is_empty(
    count: int, batch: int, settings: dict[str, Any]
) -> None:
    """25 pairs in updates of 3 x 8 leave one pair for three rounds; of 3 x 1, too few for six."""
    planner = plan(make_pairs(count), batch_size=batch, accumulation=3, **settings)
    for epoch in (0, 1):
        sizes = [len(rows) for rows in rows_of(planner, epoch)]
        assert len(sizes) == 3 * planner.updates(epoch)
        assert min(sizes) > 0
        pool = 2 if planner.mines(epoch) else 1
        # What is too little for a round each may join the last ones.
        assert max(sizes) <= batch * pool + 1


@pytest.mark.parametrize("settings", [{}, ohem(warmup_epochs=1, pool_multiplier=2)])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_processes_share_the_global_batches_of_one(
    accumulation: int, settings: dict[str, Any]
) -> None:
    """The same global batches in the same order: 24 pairs on 1, 12 on 2, 8 on 3 processes."""
    data = make_pairs(130)
    plans = [
        plan(data, 24 // processes, accumulation, processes, **settings) for processes in (1, 2, 3)
    ]
    for epoch in (0, 1):
        alone = rows_of(plans[0], epoch)
        assert rows_of(plans[1], epoch) == alone
        assert rows_of(plans[2], epoch) == alone


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [75, 97])
def test_ranks_split_each_round_among_them(count: int, processes: int) -> None:
    data = make_pairs(count)
    rounds = plan(data, batch_size=4, processes=processes).rounds(0)
    ranks = [RankBatches(data, rounds, rank, processes) for rank in range(processes)]
    assert {len(batches) for batches in ranks} == {len(rounds)}
    for number, rows in enumerate(rounds):
        shares = [real_rows(batches[number]) for batches in ranks]
        assert sorted(row for share in shares for row in share) == sorted(rows.tolist())
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {batches[number].total for batches in ranks} == {len(rows)}


@pytest.mark.parametrize("processes", [2, 4])
def test_ranks_get_about_the_same_work(processes: int) -> None:
    """Shares of neighbours in order of length would give one rank all the long proteins."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(5.9, 0.6, 400).clip(30, 1000).astype(int)
    store = MemoryStore({f"P{i:03d}": np.zeros((n, 1), np.float16) for i, n in enumerate(lengths)})
    # A bait of average length, and preys: only the longer side tells such pairs apart.
    pairs = rng.permuted(np.stack([rng.integers(0, 400, 960), np.arange(960) % 400], 1), axis=1)
    labels = (np.arange(960) % 2).astype(np.int8)
    data = PairData(PairTable(tuple(store.embeddings), pairs, labels), store)
    rounds = plan(data, 32, processes=processes).rounds(0)
    for rows in rounds:
        longest = data.protein_lengths[pairs[rows]].max(1)
        assert (np.diff(longest) >= 0).all()
    ranks = [RankBatches(data, rounds, rank, processes) for rank in range(processes)]
    residues = np.array(
        [
            [data.protein_lengths[pairs[batches[number].rows]].sum() for batches in ranks]
            for number in range(len(rounds))
        ]
    )
    assert (residues.max(1) / residues.mean(1)).max() < 1.15


def real_rows(batch: PairBatch) -> list[int]:
    assert batch.weights.tolist() == (batch.rows != STAND_IN).astype(float).tolist()
    rows: list[int] = batch.rows[batch.rows != STAND_IN].tolist()
    return rows


def test_a_rank_without_a_pair_gets_a_stand_in_of_weight_0() -> None:
    """It must take part in the backward pass, and must add nothing."""
    data = make_pairs(9)
    batches = RankBatches(data, [np.array([4])], rank=1, processes=2)
    assert batches[0].weights.tolist() == [0.0]
    assert batches[0].rows.tolist() == [STAND_IN]
    assert batches[0].total == 1
    assert len(batches[0].labels) == len(batches[0].pairs) == 1
    assert RankBatches(data, [np.array([4])], rank=0, processes=2)[0].weights.tolist() == [1.0]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    data = make_pairs(97)
    np.random.seed(1)
    torch.manual_seed(1)
    first = [rows_of(plan(data), epoch) for epoch in range(3)]
    np.random.seed(2)
    torch.manual_seed(2)
    again = [rows_of(plan(data), epoch) for epoch in (2, 0, 1)]
    assert [again[1], again[2], again[0]] == first
    assert first[0] != first[1] != first[2]
    assert rows_of(plan(data, seed=48), 0) != first[0]


def test_an_epoch_is_shuffled() -> None:
    """Batches of like length were once the same in every epoch of a small table."""
    planner = plan(make_pairs(300))
    together = [{frozenset(rows) for rows in rows_of(planner, epoch)} for epoch in (0, 1)]
    assert len(together[0] & together[1]) <= 2


@pytest.mark.parametrize("ratio", [1.0, 3.0, 0.25])
@pytest.mark.parametrize("positive", [0.5, 0.1])
def test_warm_up_batches_have_the_asked_ratio_of_classes(ratio: float, positive: float) -> None:
    data = make_pairs(300, positive=positive)
    planner = plan(data, **ohem(warmup_epochs=2, warmup_pos_neg_ratio=ratio))
    for epoch in (0, 1):
        rounds = planner.rounds(epoch)
        assert [len(rows) for rows in rounds] == [8] * 37 + [4]
        positives = [int(data.table.labels[rows].sum()) for rows in rounds]
        for rows, found in zip(rounds, positives, strict=True):
            assert abs(found - len(rows) * ratio / (1 + ratio)) <= 1
        # Counted from the start, no round is more than half a pair off.
        expected = np.cumsum([len(rows) for rows in rounds]) * ratio / (1 + ratio)
        assert np.abs(np.cumsum(positives) - expected).max() <= 0.5
        assert sum(positives) == pytest.approx(300 * ratio / (1 + ratio), abs=1)


def test_a_warm_up_takes_each_pair_of_a_class_before_any_again() -> None:
    data = make_pairs(300, positive=0.1)
    rows = np.concatenate(plan(data, **ohem(warmup_epochs=1)).rounds(0))
    for label in (0, 1):
        of_class = np.flatnonzero(data.table.labels == label)
        times = np.bincount(rows, minlength=len(data))[of_class]
        assert times.max() - times.min() <= 1
        assert times.sum() == 150


def test_mining_begins_after_the_warm_up_with_pools() -> None:
    planner = plan(make_pairs(97), **ohem(warmup_epochs=2, pool_multiplier=3))
    assert [planner.mines(epoch) for epoch in range(4)] == [False, False, True, True]
    assert [planner.updates(epoch) for epoch in range(4)] == [13, 13, 5, 5]
    assert [len(rows) for rows in rows_of(planner, 2)] == [24, 24, 24, 24, 1]
    assert not plan(make_pairs(97), warmup_epochs=0).mines(5)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_drop_last_leaves_out_the_incomplete_update(accumulation: int) -> None:
    planner = plan(make_pairs(97), accumulation=accumulation, drop_last=True)
    rounds = rows_of(planner, 0)
    assert [len(rows) for rows in rounds] == [8] * 12
    dropped = [
        set(range(97)) - {row for rows in rows_of(planner, e) for row in rows} for e in (0, 1)
    ]
    assert [len(rows) for rows in dropped] == [1, 1]
    assert dropped[0] != dropped[1]


def test_drop_last_does_not_drop_everything() -> None:
    planner = plan(make_pairs(5), drop_last=True)
    assert sorted(row for rows in rows_of(planner, 0) for row in rows) == list(range(5))


def test_an_update_needs_a_pair_for_every_round() -> None:
    with pytest.raises(
        UserError, match=r"gradient_accumulation_steps \(6\) must be at most .* \(5\)"
    ):
        plan(make_pairs(5), accumulation=6)


def test_mining_needs_both_classes() -> None:
    with pytest.raises(UserError, match=r"sampling.strategy: ohem needs positive and negative"):
        plan(make_pairs(20, positive=0.0), **ohem())


def test_a_batch_has_every_protein_once_with_its_own_residues() -> None:
    data = make_pairs(60)
    rows = [0, 5, 1, 0, 17, 30]
    batch = whole_batch(data, rows)
    assert len(set(batch.names)) == len(batch.names)
    ids = [[data.table.proteins[i] for i in pair] for pair in data.table.pairs[rows]]
    assert [[batch.names[i] for i in pair] for pair in batch.pairs.tolist()] == ids
    assert {name for pair in ids for name in pair} == set(batch.names)
    assert batch.labels.tolist() == data.table.labels[rows].tolist()
    assert batch.rows.tolist() == rows
    assert_own_residues(batch, data)


def assert_own_residues(batch: PairBatch, data: PairData) -> None:
    residues = batch.proteins.split(batch.lengths.tolist())
    for name, states in zip(batch.names, residues, strict=True):
        assert torch.equal(states, torch.from_numpy(data.store[name]))


def test_a_self_pair_is_one_protein_on_both_sides() -> None:
    batch = whole_batch(make_pairs(9), [1])
    assert batch.names == ("P001",)
    assert batch.pairs.tolist() == [[0, 0]]


def test_keeping_part_of_a_batch_drops_the_proteins_that_only_the_rest_had() -> None:
    data = make_pairs(60)
    batch = whole_batch(data, list(range(12)))
    kept = batch.keep(np.array([11, 3, 7, 40, 41]))
    alone = whole_batch(data, [3, 7, 11])
    assert kept.names == alone.names
    assert kept.pairs.tolist() == alone.pairs.tolist()
    assert kept.labels.tolist() == alone.labels.tolist()
    assert kept.rows.tolist() == [3, 7, 11]
    assert kept.weights.tolist() == [1.0, 1.0, 1.0]
    assert kept.total == 5
    assert kept.proteins.shape == alone.proteins.shape
    assert_own_residues(kept, data)


def test_keeping_nothing_keeps_a_stand_in() -> None:
    batch = whole_batch(make_pairs(9), [2, 3, 4])
    kept = batch.keep(np.array([5, 6, 7, 8]))
    assert kept.weights.tolist() == [0.0]
    assert kept.rows.tolist() == [STAND_IN]
    assert kept.total == 4
    assert kept.keep(np.array([STAND_IN + 1])).weights.tolist() == [0.0]
    assert len(kept.pairs) == len(kept.labels) == 1


def test_to_moves_every_tensor_and_leaves_shapes_on_the_host() -> None:
    moved = whole_batch(make_pairs(9), [0, 4]).to(torch.device("meta"))
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 3
    assert {tensor.device.type for tensor in tensors} == {"meta"}
