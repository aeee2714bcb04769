"""Evaluate the centrality of essential proteins, as PRING's `essential_protein` task does.

Docstrings mention any differences from the original (github.com/SophieSarceau/PRING).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from common.config import Config
from common.data.tables.protein_list import read_protein_list
from common.errors import UserError, count_of
from common.evaluation.networks import FloatArray, Network, one_blas_thread
from common.evaluation.pair_sets import PairSet
from common.evaluation.plots import chart_centralities, chart_degrees
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import Task, TaskResult
from common.evaluation.test_set import TestSet

TOP_PROTEINS = 100
DENSITY_POINTS = 10_000
KINDS = ("essential", "non-essential")
METRICS = ("precision_at_100", "precision_at_100_ties_shared", "distribution_overlap", "top")


class EssentialProteins(Task):
    """Computes how well centrality distinguishes the configured species' essential proteins."""

    name = "essential_proteins"
    title = "Essential proteins"
    question = (
        "Are essential proteins as central in the predicted network as in the true network? A "
        "higher precision and a lower overlap are better."
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
        """Compare the proteins' centralities between the predicted and the true network."""
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
    """Metrics of how well centrality distinguishes essential from non-essential proteins.

    Attributes:
        precision_at_100: The fraction of the most central proteins in the predicted network that
            are also among the most central proteins in the true network.
        precision_at_100_ties_shared: The expected value of `precision_at_100` if proteins of equal
            centrality are ranked in random order.
        distribution_overlap: The area under both densities of predicted centrality, 0 to 1.
        top: The number of proteins that count as most central: 100, or half of all proteins if
            there are fewer than 200.
        essential: (E,) predicted centralities of the essential proteins.
        non_essential: (M,) predicted centralities of the non-essential proteins.
        notes: Sentences about ignored proteins and ties.
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
    """Rank the listed proteins by centrality in the predicted and in the true network.

    Precision at 100 compares the 100 most central listed proteins of the two networks. As in the
    benchmark, proteins of equal centrality keep the order of the lists, essential proteins first,
    so an empty predicted network scores 1 if the essential proteins are the most central proteins
    of the true network. The overlap compares the predicted centralities of the two groups; a lower
    overlap is better.

    Args:
        predicted: The predicted network; proteins outside the true network are ignored.
        true: The true network.
        essential: Ids of essential proteins; ids that the true network lacks are ignored.
        non_essential: Ids of non-essential proteins; ids that the true network lacks are ignored.

    Raises:
        UserError: The true network lacks all proteins of a group.
    """
    standing_out = known_ids(essential, true, "essential")
    others = known_ids(non_essential, true, "non-essential")
    chosen = standing_out + others
    lost = len(set(essential)) + len(set(non_essential)) - len(chosen)
    subject = count_of(lost, "listed protein is", "listed proteins are")
    notes = [f"{subject} ignored (not in the test graph)"] if lost else []
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
    """Return the distinct ids that the network contains, in the order of the list.

    Raises:
        UserError: The network contains none of the ids.
    """
    known = [name for name in dict.fromkeys(ids) if name in network.index]
    if not known:
        raise UserError(
            f"none of the {kind} proteins is in the test graph; use protein lists and a graph from"
            " the same species and split"
        )
    return known


def _most_central(centrality: FloatArray, top: int) -> set[int]:
    return set(np.argsort(-centrality, kind="stable")[:top].tolist())


def _places(centrality: FloatArray, top: int) -> FloatArray:
    """Compute the probability that each protein is among the `top` most central proteins, (P,).

    The probability is 1 or 0, except for tied proteins at rank `top`, which are in random order.
    """
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
        f"{level} of {len(centrality)} listed proteins have the same {kind} centrality as the"
        f" protein at rank {top}, so precision_at_100 depends on the order of the lists, essential"
        " proteins first, as in the benchmark; precision_at_100_ties_shared does not depend on this"
        " order"
    ]


def network_centrality(network: Network, proteins: Sequence[str]) -> FloatArray:
    """Compute the sum of each protein's edge clustering coefficients (Wang et al., 2012), (P,).

    NC(u) = Σ over neighbours v of |N(u) ∩ N(v)| / min(|N(u)| - 1, |N(v)| - 1), without edges of a
    protein with degree 1. As in the benchmark, a protein with a self-pair is its own neighbour.
    """
    adjacency = network.adjacency(np.float32)
    places = [network.index[name] for name in proteins]
    others = adjacency.sum(axis=1, dtype=np.float64) - 1
    with one_blas_thread():
        common = (adjacency[places] @ adjacency).astype(np.float64)
    possible = np.minimum(others[places][:, None], others[None, :])
    counted = (adjacency[places] > 0) & (possible > 0)
    coefficients = np.divide(common, possible, out=np.zeros_like(common), where=counted)
    # Rounded, so that equal centralities stay equal whatever the order of summation.
    centrality: FloatArray = coefficients.sum(axis=1).round(10)
    return centrality


def distribution_overlap(first: FloatArray, second: FloatArray) -> float:
    """Compute the area under both densities (0 to 1), in the common range of the two groups.

    Densities are Gaussian kernel estimates (Scott's bandwidth), integrated by the trapezoid rule on
    10,000 points. If all values of both groups are equal, the overlap is 1. If the ranges of the
    groups have at most one point in common, it is 0 (the benchmark fails or gives negative values).
    """
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    if low >= high:
        return float(len(np.unique([*first, *second])) == 1)
    # Imported here because this import takes about a second.
    from scipy.stats import gaussian_kde

    points = np.linspace(low, high, DENSITY_POINTS)
    both = np.minimum(gaussian_kde(first)(points), gaussian_kde(second)(points))
    return float(np.trapezoid(both, points))
