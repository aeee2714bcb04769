"""MMD ratios and what self-pairs add: by hand, and against a double loop over subgraphs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config import EvaluateConfig
from common.evaluation.networks import FloatArray, Network
from common.evaluation.predictions import Predictions
from common.evaluation.subgraphs import HALVINGS, Comparison, halves_mmd, mmd
from common.evaluation.tasks.base import TaskResult
from common.evaluation.tasks.topology import (
    Topology,
    compare_networks,
    ratio_rows,
    topology,
    topology_rows,
)
from tests.test_networks import PATH, TRIANGLE, load_case, random_network

SETS = {2: [{"A", "B"}, {"A", "C"}], 3: [{"A", "B", "C"}]}


def judge(predicted: Network, true: Network, sets: dict[int, list[set[str]]]) -> TaskResult:
    """What the task gives for one species with node sets of one strategy."""
    benchmark = SimpleNamespace(node_sets=lambda _: {"BFS": sets})
    one: Any = SimpleNamespace(benchmark=benchmark, network=true, species="toy")
    config: Any = SimpleNamespace(evaluate=EvaluateConfig(), run=SimpleNamespace(seed=1))
    scores = np.ones(len(predicted.edges))
    predictions = Predictions.gather(predicted.nodes, predicted.edges, scores)
    return Topology([one], config).judge(predictions, 0.5)


def halving_by_hand(true: FloatArray) -> float:
    """The definition: odd against even as listed, then in shuffled orders."""
    rng, order, found = np.random.default_rng(0), list(range(len(true))), []
    for _ in range(HALVINGS):
        found.append(mmd(true[order[0::2]], true[order[1::2]]))
        order = rng.permutation(len(true)).tolist()
    return sum(found) / HALVINGS


def test_two_subgraphs_against_themselves_by_hand() -> None:
    """Every halving has one on each side: 2 - 2k, and here the total variation is 1/2."""
    two = np.array([[2.0, 2.0, 0.0], [2.0, 0.0, 2.0]])
    assert halves_mmd(two) == pytest.approx(2 - 2 * np.exp(-1 / 8), abs=1e-6)


def test_halves_are_odd_and_even_as_listed_and_shuffled_and_averaged() -> None:
    true = np.random.default_rng(3).integers(0, 5, (7, 6)).astype(float)
    assert halves_mmd(true) == pytest.approx(halving_by_hand(true), abs=1e-14)
    assert halves_mmd(true) != pytest.approx(mmd(true[0::2], true[1::2]), rel=1e-3)


@pytest.mark.parametrize("count", [1, 4])
def test_one_or_equal_subgraphs_have_no_discrepancy_and_no_ratio(count: int) -> None:
    true = np.tile([3.0, 0.0, 1.0], (count, 1))
    assert halves_mmd(true) == pytest.approx(0, abs=1e-15)
    compared = Comparison(4, {"graph_sim": np.ones(count)}, {"cc_mmd": np.stack([true + 1, true])})
    assert compared.ratios() == {"cc_mmd": None}


def test_ratios_are_the_mmds_over_the_true_networks_own() -> None:
    predicted, true = random_network(1), random_network(2)
    rng = np.random.default_rng(5)
    sets = {n: [rng.choice(true.nodes, n, False).tolist() for _ in range(6)] for n in (6, 9)}
    compared = compare_networks(predicted, true, sets)
    rows, ratios = topology_rows(compared), ratio_rows(compared)
    assert rows == topology(predicted, true, sets)
    assert [list(row.values())[:3] for row in ratios] == [
        ["node_size", 6, 6], ["node_size", 9, 6], ["summary", None, 12],
    ]  # fmt: skip
    for each, row, ratio in zip(compared, rows, ratios, strict=False):
        for name, (_, truth) in each.histograms.items():
            expected = getattr(row, name) / halving_by_hand(truth)
            assert ratio[f"{name}_ratio"] == pytest.approx(expected, rel=1e-9)
    *sizes, summary = ratios
    # The mean of the sizes' ratios, not the ratio of their means.
    mean = np.mean([row["cc_mmd_ratio"] for row in sizes])
    assert summary["cc_mmd_ratio"] == pytest.approx(mean, rel=1e-12)


def test_a_size_without_a_ratio_is_left_out_of_the_mean() -> None:
    """One triangle has no halves, and two edges have the same degrees."""
    result = judge(PATH, TRIANGLE, {**SETS, 1: [{"A"}]})
    rows = result.tables["topology_ratios.csv"].rows
    assert [row["deg_dist_mmd_ratio"] for row in rows] == [None] * 4
    true = Network.from_pairs([("A", "B"), ("C", "D"), ("C", "C")])
    result = judge(
        Network.from_pairs([]), true, {2: [{"A", "B"}, {"C", "D"}], 3: [{"A", "B", "C"}]}
    )
    found = [row["deg_dist_mmd_ratio"] for row in result.tables["topology_ratios.csv"].rows]
    assert found[1] is None
    assert found[2] == found[0] != None  # noqa: E711


def test_the_console_shows_similarity_and_density_without_self_pairs_apart() -> None:
    looped = Network.from_pairs([("A", "B"), ("A", "A"), ("B", "B"), ("C", "C")])
    true = Network.from_pairs([("A", "B"), ("B", "C"), ("A", "C"), ("A", "A")])
    (summary,) = judge(looped, true, {3: [{"A", "B", "C"}]}).summary
    every, plain = summary.rows
    assert (every["self_pairs"], plain["self_pairs"]) == ("with", "without")
    # Entries: 5 predicted, 7 true, 3 of them shared. Without self-pairs: 2, 6 and 2.
    assert every["graph_sim"] == pytest.approx(1 - 6 / 12)
    assert plain["graph_sim"] == pytest.approx(1 - 4 / 8)
    assert every["relative_density"] == pytest.approx(4 / 4)
    assert plain["relative_density"] == pytest.approx(1 / 3)
    assert "deg_dist_mmd" not in plain


def test_the_true_network_has_ratios_near_zero_and_a_denser_one_far_above_one() -> None:
    """On the benchmark's yeast network: what the ratio is for."""
    _, (predicted, true, sets) = load_case("yeast_seed1_BFS")
    small = {size: sets[size] for size in (20, 40)}
    *_, same = ratio_rows(compare_networks(true, true, small))
    *_, guess = ratio_rows(compare_networks(predicted, true, small))
    for name in ("deg_dist_mmd_ratio", "cc_mmd_ratio", "laplacian_eigen_mmd_ratio"):
        assert same[name] == pytest.approx(0, abs=1e-9)
        assert guess[name] > 3
