"""Thresholds that fit a network: by hand, and against the topology task's own densities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_score

from common.config import Config, DecisionThresholdConfig
from common.data.held_out import HeldOut
from common.data.network_sample import (
    MOST_PAIRS,
    SIZES,
    NetworkSample,
    sample_pairs,
    sample_walks,
)
from common.data.splitting import draw_node_sets
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation.networks import Network
from common.evaluation.tasks.topology import topology
from common.inference.thresholds import Choice, Evidence, draw_sample, mode_of


def hold(count: int, edges: list[tuple[int, int]]) -> HeldOut:
    """Proteins that are held out, all in one set."""
    names = tuple(f"P{number:03d}" for number in range(count))
    pairs = np.array(edges)
    table = PairTable(names, pairs, np.ones(len(pairs), np.int8))
    return HeldOut(pairs, (np.arange(count),), table, (len(pairs),))


def draw_network(count: int, density: float, seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    every = np.stack(np.triu_indices(count), axis=1)
    return hold(count, every[rng.random(len(every)) < density].tolist())


def choose(sample: NetworkSample, scores: list[float], density: float | None = None) -> Choice:
    settings = DecisionThresholdConfig(mode="match_density", density=density or "auto")
    evidence = Evidence(sample=sample, sample_scores=np.array(scores))
    return mode_of(settings).choose(settings, evidence)


FIVE = PairTable(
    ("A", "B", "C"),
    np.array([[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]),
    np.array([1, 0, 0, 0, 1], np.int8),
)


def test_the_threshold_calls_what_adds_up_to_the_density() -> None:
    """By hand: calling the three highest adds up to 0.9, four to 1.6, on a log scale farther."""
    sample = NetworkSample(FIVE, np.array([[0.2, 0.3, 0.4, 0.7, 2.0]]))
    choice = choose(sample, [0.9, 0.8, 0.7, 0.5, 0.1])
    assert choice.threshold == pytest.approx(0.6)
    assert choice.assumed == {"density": 2 / 5}
    # 1.6 is nearer to 1 than 0.5 is: log 1.6 = 0.47, log 0.5 = -0.69.
    nearer = NetworkSample(FIVE, np.array([[0.2, 0.2, 0.1, 1.1, 2.0]]))
    assert choose(nearer, [0.9, 0.8, 0.7, 0.5, 0.1]).threshold == pytest.approx(0.3)
    # Pairs of one score are called together: 0.9 cannot be reached, and 1.6 is nearer than 0.5.
    tied = NetworkSample(FIVE, np.array([[0.2, 0.3, 0.4, 0.7, 2.0]]))
    assert choose(tied, [0.9, 0.8, 0.7, 0.7, 0.1]).threshold == pytest.approx(0.4)


def test_several_kinds_of_walk_count_by_the_geometric_mean() -> None:
    """After two pairs the densities are 4 and 1/4, after three 5 and 1/2."""
    sample = NetworkSample(FIVE, np.array([[2.0, 2.0, 1.0, 1, 1], [0.0, 0.25, 0.25, 3, 3]]))
    assert choose(sample, [0.9, 0.8, 0.6, 0.5, 0.1]).threshold == pytest.approx(0.7)


def test_a_number_is_the_share_of_all_pairs_that_is_called() -> None:
    held_out = draw_network(30, 0.1, seed=0)
    sample = sample_pairs(held_out, seed=0)
    assert len(sample.table) == 30 * 31 // 2
    assert sample.table.labels.sum() == len(held_out.edges)
    scores = np.random.default_rng(1).random(465)
    choice = choose(sample, scores.tolist(), 0.2)
    assert (scores >= choice.threshold).sum() == 93
    assert choice.assumed == {"density": 0.2}


def test_of_many_pairs_as_many_as_are_enough_are_taken_at_random() -> None:
    held_out = draw_network(400, 0.01, seed=0)
    sample = sample_pairs(held_out, seed=0)
    assert len(sample.table) == MOST_PAIRS < 400 * 401 // 2
    assert sample.weights.sum() == pytest.approx(1)
    true = {tuple(edge) for edge in held_out.edges.tolist()}
    assert [tuple(pair) in true for pair in sample.table.pairs.tolist()] == [
        bool(label) for label in sample.table.labels
    ]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_the_density_of_the_sample_is_that_of_the_topology_task(
    monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    """On the node sets that were drawn, with all of their pairs: exactly, by another program."""
    held_out, kept = draw_network(60, 0.08, seed=3), {}

    def draw(*arguments: object) -> dict[int, list[list[int]]]:
        kept.update(draw_node_sets(*arguments))  # type: ignore[arg-type]
        return kept

    monkeypatch.setattr("common.data.network_sample.draw_node_sets", draw)
    monkeypatch.setattr("common.data.network_sample.MOST_PAIRS", 10**9)
    sample = sample_walks(held_out, ["BFS"], seed=5)
    assert list(kept) == [20, 40, 60]
    every = np.stack(np.triu_indices(60), axis=1)
    scores = np.random.default_rng(0).random(len(every))
    predicted = Network.from_indices(held_out.proteins, every[scores >= threshold])
    true = Network.from_indices(held_out.proteins, held_out.edges)
    sets = {
        size: [frozenset(held_out.proteins[place] for place in members) for members in group]
        for size, group in kept.items()
    }
    row = topology(predicted, true, sets)[-1]
    own = dict(zip(map(tuple, every.tolist()), scores, strict=True))
    sampled = np.array([own[tuple(pair)] for pair in sample.table.pairs.tolist()])
    density = sample.weights[0][sampled >= threshold].sum()
    assert density == pytest.approx(row.relative_density, rel=1e-9)


def test_a_part_of_each_sets_pairs_gives_the_same_density_but_for_chance() -> None:
    held_out = draw_network(300, 0.02, seed=1)
    sample = sample_walks(held_out, ["BFS", "DFS"], seed=0)
    assert len(sample.table) <= MOST_PAIRS
    assert sample.weights.shape == (2, len(sample.table))
    # Calling exactly what interacts is a relative density of 1.
    assert sample.weights[:, sample.table.labels == 1].sum(axis=1) == pytest.approx([1, 1], rel=0.1)


def test_fewer_proteins_than_the_smallest_node_size_are_one_set() -> None:
    held_out = hold(6, [(0, 1), (1, 2), (5, 5)])
    assert min(SIZES) > 6
    sample = sample_walks(held_out, ["RANDOM_WALK"], seed=0)
    assert len(sample.table) == 21
    assert sample.weights == pytest.approx(np.full((1, 21), 1 / 3))


def test_the_kinds_of_walk_are_the_judged_ones_or_else_the_splits() -> None:
    held_out = draw_network(80, 0.05, seed=0)
    for judged, kinds in (("all", 1), (["BFS", "DFS"], 2)):
        config = Config.model_validate(
            {
                "evaluate": {
                    "decision_threshold": {"mode": "match_density"},
                    "strategies": judged if judged == "all" else tuple(judged),
                }
            }
        )
        sample = draw_sample(config, held_out)
        assert sample is not None
        assert len(sample.weights) == kinds
        assert draw_sample(config, None) is None
    assert draw_sample(Config(), held_out) is None


def test_node_sets_without_any_interaction_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "common.data.network_sample.draw_node_sets", lambda *_: {20: [list(range(20))]}
    )
    with pytest.raises(UserError, match=r"DFS walks find no .* interaction; raise .*fraction"):
        sample_walks(hold(30, [(28, 29)]), ["DFS"], seed=0)


def settings_of(precision: float) -> DecisionThresholdConfig:
    return DecisionThresholdConfig(mode="precision", precision=precision)


SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
LABELS = np.array([1, 1, 0, 1, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("precision", "prevalence", "threshold"),
    [
        # Of balanced pairs 3 of 4 are right down to 0.6, and 4 of 6 down to 0.4.
        (0.75, 0.5, 0.55),
        (0.66, 0.5, 0.35),
        # At 1 in 10: (0.1 · 3/4) / (0.1 · 3/4 + 0.9 · 1/4) = 1/4, and 4/4, 2/4 give 2/11.
        (0.25, 0.1, 0.55),
        (0.18, 0.1, 0.35),
        (0.26, 0.1, 0.75),
    ],
)
def test_the_lowest_threshold_that_reaches_the_precision(
    precision: float, prevalence: float, threshold: float
) -> None:
    settings = settings_of(precision)
    choice = mode_of(settings).choose(settings, Evidence(SCORES, LABELS, prevalence))
    assert choice.threshold == pytest.approx(threshold)
    assert choice.assumed == {"prevalence": prevalence}


def test_a_precision_that_is_not_reached_is_refused_with_the_best_one() -> None:
    """Down to 0.6: (0.1 · 3/4) / (0.1 · 3/4 + 0.9 · 2/4) = 1/7."""
    labels = np.array([0, 1, 1, 1, 0, 1, 0, 0])
    settings = settings_of(0.4)
    with pytest.raises(UserError, match=r"precision of 0\.4 .* 0\.1 \(the best is 0\.25\); lower"):
        mode_of(settings).choose(settings, Evidence(SCORES, labels, 0.1))


@pytest.mark.parametrize("seed", range(5))
def test_the_precision_is_that_of_as_many_more_negatives(seed: int) -> None:
    """By another way: every negative counted nine times over is a prevalence of one in ten."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], 100)
    scores = np.round(rng.normal(labels * 1.5), 1)
    scores = (scores - scores.min()) / np.ptp(scores)
    settings = settings_of(0.4)
    threshold = mode_of(settings).choose(settings, Evidence(scores, labels, 0.1)).threshold
    weights = np.where(labels == 1, 1, 9)
    reached = [
        level
        for level in np.unique(scores)
        if precision_score(labels, scores >= level, sample_weight=weights, zero_division=0) >= 0.4
    ]
    assert (scores >= threshold).sum() == (scores >= min(reached)).sum()
