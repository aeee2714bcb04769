"""Negatives: free pairs only, as many as asked for, by either draw; and those of every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from common.config import TrainingConfig
from common.config_data import DataloaderConfig, NegativesConfig, SamplingConfig
from common.data.batches import BatchPlanner, PairData, RankBatches
from common.data.negatives import Draw, Negatives, encode_pairs, positive_codes
from common.data.tables.pairs import PairTable
from common.errors import UserError
from tests.tiny_pairs import make_pairs

DRAWS: list[Draw] = ["uniform", "degree"]


def table_of(text: str) -> PairTable:
    """The pairs of a text such as 'ab1 cc0'."""
    words = text.split()
    proteins = sorted({letter for word in words for letter in word[:2]})
    pairs = [[proteins.index(word[0]), proteins.index(word[1])] for word in words]
    labels = np.array([int(word[2]) for word in words], np.int8)
    return PairTable(tuple(proteins), np.array(pairs, np.int64).reshape(-1, 2), labels)


def names_of(table: PairTable, pairs: Any) -> set[str]:
    return {"".join(sorted(table.proteins[row] for row in pair)) for pair in pairs.tolist()}


def network(proteins: int = 500, pairs: int = 1500, seed: int = 0) -> PairTable:
    """Positives of very different degrees, a tenth of them self-pairs."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, proteins + 1) ** 0.7
    ends = rng.choice(proteins, size=(4 * pairs, 2), p=weights / weights.sum())
    ends[: pairs // 10, 1] = ends[: pairs // 10, 0]
    _, first = np.unique(encode_pairs(ends, proteins), return_index=True)
    chosen = ends[np.sort(first)][:pairs]
    names = tuple(f"P{row:04d}" for row in range(proteins))
    return PairTable(names, chosen, np.ones(len(chosen), np.int8))


def degree_auroc(positives: Any, negatives: Any, proteins: int) -> float:
    degrees = np.bincount(positives.ravel(), minlength=proteins)
    ranks = rankdata(degrees[np.concatenate([positives, negatives])].sum(1))[: len(positives)]
    below = ranks.sum() - len(positives) * (len(positives) + 1) / 2
    return float(below / (len(positives) * len(negatives)))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_only_free_pairs_are_drawn_once_each_and_exactly_so_many(data: st.DataObject) -> None:
    proteins = data.draw(st.integers(2, 12))
    numbers = st.integers(0, proteins - 1)
    known = data.draw(st.lists(st.tuples(numbers, numbers), max_size=60))
    itself = data.draw(st.booleans())
    pairs = np.array(known, np.int64).reshape(-1, 2)
    positives = pairs[: data.draw(st.integers(0, len(pairs)))]
    source = Negatives(proteins, positives, np.unique(encode_pairs(pairs, proteins)), itself)
    every = {(a, b) for b in range(proteins) for a in range(b + (1 if itself else 0))}
    free = every - {(min(pair), max(pair)) for pair in known}
    assert source.free == len(free)
    count = data.draw(st.integers(0, len(free)))
    draw = data.draw(st.sampled_from(DRAWS))
    drawn = source.draw(count, draw, np.random.default_rng(data.draw(st.integers(0, 99))), "x")
    assert drawn.shape == (count, 2)
    distinct = {(a, b) for a, b in drawn.tolist()}
    assert len(distinct) == count
    assert distinct <= free


def test_a_positive_of_any_table_is_never_drawn() -> None:
    """All 10 pairs of five proteins but two are positive somewhere; x and y are not among them."""
    train = table_of("ab1 ac1 de0 bd0")
    val, test = table_of("ea1 xa1 ad1"), table_of("cb1 dc1 xy1 ec1 db0")
    source = Negatives.of_table(train, [val, test])
    drawn = source.draw(source.free, "uniform", np.random.default_rng(0), "x")
    assert names_of(train, drawn) == {"bd", "be", "de"}


def test_codes_of_another_table_follow_the_names() -> None:
    codes = positive_codes(table_of("za1 ca1 bb1 ab0"), ("a", "b", "c"))
    assert codes.tolist() == [0 * 3 + 2, 1 * 3 + 1]


def test_too_many_are_refused_with_the_number_there_is() -> None:
    source = Negatives.of_table(table_of("ab1 cc1 cd1"))
    with pytest.raises(UserError, match=r"^per asks for 5 .* only 4 pairs of the 4 proteins"):
        source.draw(5, "uniform", np.random.default_rng(0), "per")
    assert len(source.draw(4, "degree", np.random.default_rng(0), "per")) == 4


def test_uniform_gives_every_pair_the_same_chance() -> None:
    """Sparse, where pairs are drawn by rejection, and dense, where all are listed."""
    for proteins, count, itself in ((14, 5, False), (14, 60, False), (8, 4, True)):
        known = np.array([1, 2, 3])
        source = Negatives(proteins, np.empty((0, 2), np.int64), known, itself)
        drawn = [
            source.draw(count, "uniform", np.random.default_rng(seed), "x") for seed in range(4000)
        ]
        codes = encode_pairs(np.concatenate(drawn), proteins)
        counts = np.bincount(codes, minlength=proteins**2)
        counts = counts[counts > 0]
        assert len(counts) == source.free
        expected = 4000 * count / source.free
        assert ((counts - expected) ** 2 / expected).sum() < 1.4 * source.free


@pytest.mark.parametrize("draw", DRAWS)
def test_the_order_is_random_and_follows_from_the_generator(draw: Draw) -> None:
    table = network()
    source = Negatives.of_table(table)
    one, again, other = (
        source.draw(1500, draw, np.random.default_rng(seed), "x") for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    places = np.arange(len(one))
    for side in range(2):
        assert abs(np.corrcoef(places, one[:, side])[0, 1]) < 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("per_positive", [1, 2])
def test_by_degree_each_protein_is_as_often_negative(seed: int, per_positive: int) -> None:
    table = network(2000, 3000, seed)
    source = Negatives.of_table(table)
    count = per_positive * len(table)
    drawn = source.draw(count, "degree", np.random.default_rng(seed), "x")
    wanted = per_positive * np.bincount(table.pairs.ravel(), minlength=2000)
    off = np.abs(np.bincount(drawn.ravel(), minlength=2000) - wanted).sum() / 2
    assert off <= 0.01 * per_positive * count
    assert abs(degree_auroc(table.pairs, drawn, 2000) - 0.5) < 0.02
    uniform = source.draw(count, "uniform", np.random.default_rng(seed), "x")
    assert degree_auroc(table.pairs, uniform, 2000) > 0.7


def test_by_degree_partners_have_the_degrees_that_they_have_in_the_positives() -> None:
    """Proteins of many partners bind one another, those of few likewise: 1600 and 400 pairs.

    Ends joined at random would make pairs of one of each: a degree AUROC of 0.55.
    """
    rng = np.random.default_rng(0)
    rows, columns = np.triu_indices(200, 1)
    every = np.stack([rows, columns], axis=1)
    parts = [rng.permutation(every)[:count] + first for count, first in ((1600, 0), (400, 200))]
    positives = np.concatenate(parts)
    source = Negatives(400, positives, np.unique(encode_pairs(positives, 400)))
    drawn = source.draw(2000, "degree", rng, "x")
    assert abs(degree_auroc(positives, drawn, 400) - 0.5) < 0.02
    assert ((drawn < 200).sum(1) == 1).mean() < 0.1


def test_by_degree_a_protein_that_binds_almost_all_does_not_stop_the_draw() -> None:
    """A hub of 30 has one free partner; the others fill the number up."""
    hub = " ".join(f"a{letter}1" for letter in "bcdefghijklmnopqrstuvwxyz")
    source = Negatives.of_table(table_of(f"{hub} AB1 AC1"))
    drawn = source.draw(100, "degree", np.random.default_rng(0), "x")
    assert len(np.unique(encode_pairs(drawn, source.proteins))) == 100


# Fresh negatives of every epoch.


def plan(
    data: PairData,
    batch_size: int = 8,
    processes: int = 1,
    known: tuple[PairTable, ...] = (),
    negatives: dict[str, Any] | None = None,
    **sampling: Any,
) -> BatchPlanner:
    chosen = NegativesConfig(**{"source": "resampled", **(negatives or {})})
    loading = DataloaderConfig(sampling=SamplingConfig(negatives=chosen, **sampling))
    training = TrainingConfig(batch_size=batch_size)
    return BatchPlanner.from_settings(data, loading, training, processes, 47, known)


def seen(planner: BatchPlanner, epoch: int) -> list[list[tuple[str, str, int]]]:
    """The named, labelled pairs of every round of an epoch."""
    table = planner.at(epoch).table
    return [
        [
            (table.proteins[a], table.proteins[b], int(label))
            for (a, b), label in zip(table.pairs[rows].tolist(), table.labels[rows], strict=True)
        ]
        for rows in planner.rounds(epoch)
    ]


@pytest.mark.parametrize("draw", DRAWS)
def test_an_epoch_has_all_positives_and_negatives_of_its_own(draw: Draw) -> None:
    data = make_pairs(60, proteins=40)
    table = data.table
    positives = {tuple(pair) for pair in table.pairs[table.labels == 1].tolist()}
    known = PairTable(table.proteins, np.array([[5, 6], [7, 8]]), np.array([1, 1], np.int8))
    planner = plan(data, known=(known,), negatives={"per_positive": 1.5, "draw": draw})
    drawn = []
    for epoch in range(8):
        epoch_table = planner.at(epoch).table
        labels = epoch_table.labels
        assert {tuple(p) for p in epoch_table.pairs[labels == 1].tolist()} == positives
        assert (labels == 1).sum() == len(positives)
        assert (labels == 0).sum() == round(1.5 * len(positives))
        negatives = {tuple(sorted(pair)) for pair in epoch_table.pairs[labels == 0].tolist()}
        assert not negatives & {tuple(sorted(pair)) for pair in positives}
        assert not negatives & {(5, 6), (7, 8)}
        rows = np.sort(np.concatenate(planner.rounds(epoch)))
        assert rows.tolist() == list(range(len(epoch_table)))
        drawn.append(frozenset(negatives))
    assert len(set(drawn)) == 8
    assert len(frozenset.union(*drawn)) > 3 * len(drawn[0])


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("sampling", [{}, {"strategy": "ohem", "pool_multiplier": 2}])
def test_two_processes_see_the_epochs_of_one(draw: Draw, sampling: dict[str, Any]) -> None:
    data = make_pairs(60, proteins=40)
    one, two = (
        plan(data, 8 // processes, processes, negatives={"draw": draw}, **sampling)
        for processes in (1, 2)
    )
    for epoch in range(3):
        assert seen(one, epoch) == seen(two, epoch)
        rounds = two.rounds(epoch)
        ranks = [RankBatches(two.at(epoch), rounds, rank, 2) for rank in range(2)]
        for number, rows in enumerate(seen(one, epoch)):
            batches = [rank[number] for rank in ranks]
            shared = [
                (*sorted((batch.names[a], batch.names[b])), int(label))
                for batch in batches
                for (a, b), label, weight in zip(
                    batch.pairs.tolist(), batch.labels.tolist(), batch.weights, strict=True
                )
                if weight
            ]
            assert sorted(shared) == sorted((*sorted(row[:2]), row[2]) for row in rows)


def test_an_epoch_is_the_same_in_a_planner_that_starts_there() -> None:
    """As after a kill: whatever epochs were planned before, in whatever order."""
    data = make_pairs(60, proteins=40)
    whole = plan(data)
    epochs = [seen(whole, epoch) for epoch in range(4)]
    assert seen(plan(data), 3) == epochs[3]
    assert [seen(whole, epoch) for epoch in (2, 0, 2)] == [epochs[2], epochs[0], epochs[2]]


def test_mined_pools_and_warm_up_are_filled_with_drawn_pairs() -> None:
    data = make_pairs(60, proteins=40)
    planner = plan(data, strategy="ohem", warmup_epochs=1, pool_multiplier=3)
    table = planner.at(0).table
    for rows in planner.rounds(0)[:-1]:
        assert table.labels[rows].mean() == 0.5
    assert len(planner.rounds(1)[0]) == 24
    assert planner.updates(1) == len(planner.rounds(1))
    assert np.sort(np.concatenate(planner.rounds(1))).tolist() == list(range(len(planner.at(1))))


def test_negatives_of_the_file_are_what_they_were() -> None:
    data = make_pairs(60)
    planner = plan(data, negatives={"source": "file"})
    assert planner.at(0) is data
    assert planner.at(1).table is data.table


def test_positives_alone_are_enough_to_train_on() -> None:
    data = make_pairs(60, positive=1.0)
    planner = plan(data, strategy="ohem")
    assert planner.at(0).table.labels.mean() == 0.5
    assert planner.updates(0) == 15


def test_what_cannot_be_drawn_is_refused_before_training() -> None:
    data = make_pairs(60, proteins=12, positive=1.0)
    key = "data_config.dataloader.sampling.negatives"
    with pytest.raises(UserError, match=f"^{key}.per_positive asks for 120 negatives"):
        plan(data, negatives={"per_positive": 2.0})
    with pytest.raises(UserError, match=f"^{key}.source: resampled needs positive"):
        plan(make_pairs(60, positive=0.0))
