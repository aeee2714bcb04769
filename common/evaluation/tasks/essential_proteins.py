"""Are essential proteins central? The metrics of PRING's `essential_protein` task.

(See github.com/SophieSarceau/PRING; the docstrings name our deviations.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from common.config import Config
from common.data.tables.protein_list import read_protein_list
from common.errors import UserError
from common.evaluation.networks import FloatArray, Network, one_blas_thread
from common.evaluation.plots import chart_centralities, chart_degrees
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import PairSet, Task, TaskResult

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet

TOP_PROTEINS = 100
DENSITY_POINTS = 10_000
KINDS = ("essential", "non-essential")
METRICS = ("precision_at_100", "precision_at_100_ties_shared", "distribution_overlap", "top")


class EssentialProteins(Task):
    """The metrics of the configured species' essential proteins."""

    name = "essential_proteins"
    title = "Essential proteins"
    question = (
        "Are essential proteins as central in the predicted network as in the true one? A higher "
        "precision and a lower overlap are better."
    )
    better = MappingProxyType({"precision": "higher", "distribution_overlap": "lower"})
    files = ("selected_essential_proteins.txt", "selected_non_essential_proteins.txt")

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        super().__init__(sets, config)
        self.lists = [read_protein_list(self.path(file)) for file in self.files]
        with self.own.explaining_misfit():
            for kind, ids in zip(KINDS, self.lists, strict=True):
                known_ids(ids, self.own.network, kind)

    def asks(self) -> list[PairSet]:
        """Return all pairs of the test proteins."""
        return [self.own.network_pairs]

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the centralities in the predicted network with those in the true one."""
        predicted, true, species = predictions.edges(threshold), self.own.network, self.own.species
        found = compare_essential(predicted, true, *self.lists)
        groups = found.essential, found.non_essential
        return TaskResult(
            {name: getattr(found, name) for name in METRICS},
            charts={
                "degrees.png": chart_degrees(predicted, true, species),
                "essential_proteins.png": chart_centralities(
                    *groups, found.distribution_overlap, species
                ),
            },
            notes=found.notes,
        )


@dataclass(frozen=True, eq=False)
class EssentialMetrics:
    """Metrics of how far essential proteins stand out by their centrality.

    Attributes:
        precision_at_100: Share of the truly most central proteins among the predicted ones.
        precision_at_100_ties_shared: The same, but proteins of equal centrality at the border share
            the remaining places: the average over random orders of these proteins.
        distribution_overlap: Area under both densities of predicted centrality, 0 to 1.
        top: How many proteins were "most central": 100, or half of all if there are not 200.
        essential: (E,) predicted centralities of the essential proteins.
        non_essential: (M,) predicted centralities of the non-essential proteins.
        notes: What was ignored, one line each.
    """

    precision_at_100: float
    precision_at_100_ties_shared: float
    distribution_overlap: float
    top: int
    essential: FloatArray
    non_essential: FloatArray
    notes: tuple[str, ...] = ()


def compare_essential(
    predicted: Network, true: Network, essential: Sequence[str], non_essential: Sequence[str]
) -> EssentialMetrics:
    """Rank chosen proteins by centrality in the predicted and in the true network.

    Precision at 100 compares the 100 most central of all chosen proteins in either network; equal
    centralities keep the order of the lists, essential first, as in the benchmark, so that an
    empty prediction has 1 where the truly most central proteins are the essential ones. The overlap
    compares the predicted centralities of the two groups: lower is better.

    Args:
        predicted: The predicted network; pairs outside the true network's proteins do not count.
        true: The true network.
        essential: Ids of essential proteins; those that the true network lacks do not count.
        non_essential: Ids of non-essential proteins, likewise.

    Raises:
        UserError: The true network lacks all proteins of a group.
    """
    standing_out = known_ids(essential, true, "essential")
    others = known_ids(non_essential, true, "non-essential")
    chosen = standing_out + others
    lost = len(set(essential)) + len(set(non_essential)) - len(chosen)
    notes = [f"{lost} listed proteins are not in the test graph and are ignored"] if lost else []
    top = min(TOP_PROTEINS, len(chosen) // 2)
    guessed = network_centrality(predicted.on(true.nodes), chosen)
    actual = network_centrality(true, chosen)
    notes += _describe_ties("predicted", guessed, top) + _describe_ties("true", actual, top)
    first, second = np.split(guessed, [len(standing_out)])
    return EssentialMetrics(
        precision_at_100=len(_most_central(guessed, top) & _most_central(actual, top)) / top,
        precision_at_100_ties_shared=float(_places(guessed, top) @ _places(actual, top)) / top,
        distribution_overlap=distribution_overlap(first, second),
        top=top,
        essential=first,
        non_essential=second,
        notes=tuple(notes),
    )


def known_ids(ids: Sequence[str], network: Network, kind: str) -> list[str]:
    """Return the distinct ids that the network contains, in their order.

    Raises:
        UserError: The network contains none of them.
    """
    known = [name for name in dict.fromkeys(ids) if name in network.index]
    if not known:
        raise UserError(
            f"none of the {kind} proteins is in the test graph: use lists and a graph of the"
            " same species and split"
        )
    return known


def _most_central(centrality: FloatArray, top: int) -> set[int]:
    return set(np.argsort(-centrality, kind="stable")[:top].tolist())


def _places(centrality: FloatArray, top: int) -> FloatArray:
    """Compute each protein's share of one of the first `top` ranks, (P,); ties give fractions."""
    border = np.sort(centrality)[-top]
    above, level = centrality > border, centrality == border
    places: FloatArray = above + level * (top - above.sum()) / level.sum()
    return places


def _describe_ties(kind: str, centrality: FloatArray, top: int) -> list[str]:
    border = np.sort(centrality)[-top]
    level = int((centrality == border).sum())
    if int((centrality >= border).sum()) == top:
        return []
    return [
        f"{level} of {len(centrality)} listed proteins share the {kind} centrality at place {top}:"
        " the order of the lists, essential first, decides precision_at_100 among them, as in the"
        " benchmark; precision_at_100_ties_shared does not depend on it"
    ]


def network_centrality(network: Network, proteins: Sequence[str]) -> FloatArray:
    """Sum each given protein's edge clustering coefficients (Wang et al., 2012), (P,).

    NC(u) = Σ over neighbours v of |N(u) ∩ N(v)| / min(|N(u)| - 1, |N(v)| - 1), edges with an end
    of degree 1 left out. A protein with a self-pair is its own neighbour, as in the benchmark.
    """
    adjacency = network.adjacency(np.float32)
    places = [network.index[name] for name in proteins]
    others = adjacency.sum(axis=1, dtype=np.float64) - 1
    with one_blas_thread():
        common = (adjacency[places] @ adjacency).astype(np.float64)
    possible = np.minimum(others[places][:, None], others[None, :])
    counted = (adjacency[places] > 0) & (possible > 0)
    coefficients = np.divide(common, possible, out=np.zeros_like(common), where=counted)
    # Rounded, so that the order of the sum's terms does not decide between equal centralities.
    centrality: FloatArray = coefficients.sum(axis=1).round(10)
    return centrality


def distribution_overlap(first: FloatArray, second: FloatArray) -> float:
    """Compute the area (0 to 1) under both densities, where the ranges of both groups overlap.

    Densities are Gaussian kernel estimates (Scott's bandwidth), integrated by the trapezoid rule on
    10,000 points. Two groups of one and the same value overlap fully; groups whose ranges do not
    meet, or meet in one point, not at all (the benchmark fails there or turns negative).
    """
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    if low >= high:
        return float(len(np.unique([*first, *second])) == 1)
    # Imported when needed: it takes about a second.
    from scipy.stats import gaussian_kde

    points = np.linspace(low, high, DENSITY_POINTS)
    both = np.minimum(gaussian_kde(first)(points), gaussian_kde(second)(points))
    return float(np.trapezoid(both, points))
