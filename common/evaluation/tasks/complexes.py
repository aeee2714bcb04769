"""Are known protein complexes found? The metrics of PRING's `complex_pathway` task.

(See github.com/SophieSarceau/PRING; the docstrings name our deviations.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from common.config import Config
from common.data.benchmarks.pickles import load_graphs
from common.data.tables.fasta import read_sequences
from common.evaluation.networks import Network
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import PairSet, Remark, Task, TaskResult

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet


class Complexes(Task):
    """The metrics of known complexes, which may have proteins that the test set lacks."""

    name = "complexes"
    title = "Protein complexes"
    question = (
        "Are known complexes found? Recall, precision and connectivity are means over complexes; "
        "higher is better."
    )
    better = MappingProxyType({"pathway": "higher"})
    files = ("complex_graphs.pkl", "complex_proteins.fasta")

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        super().__init__(sets, config)
        graphs = load_graphs(self.path("complex_graphs.pkl"))
        self.complexes = [Network.from_graph(graph) for graph in graphs]
        with self.own.explaining_misfit():
            members = {name for network in self.complexes for name in network.nodes}
            self.own.check_species(members, "complexes")

    def asks(self) -> list[PairSet]:
        """Return all pairs of different proteins in a complex, as in the benchmark's pair file."""
        nodes = (network.nodes for network in self.complexes)
        network = Network.from_pairs(
            {*itertools.chain(*(itertools.combinations(n, 2) for n in nodes))}
        )
        return [PairSet("the complexes", network.nodes, network.edges)]

    def sequences(self) -> dict[str, str]:
        """Return the sequences of the complexes' proteins."""
        return read_sequences(self.path("complex_proteins.fasta"), self.own.benchmark.cache_dir)

    def describe(self) -> dict[str, object]:
        """Return how many complexes there are."""
        return {"complexes": len(self.complexes)}

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the predicted interactions inside complexes; self-pairs are ignored.

        The benchmark's own pairs inside complexes lack self-pairs, and whether a model has scored
        self-pairs depends on the other requested tasks.
        """
        members = {name for network in self.complexes for name in network.nodes}
        predicted = predictions.edges(threshold).on(members)
        plain = predicted.without_self_pairs()
        dropped = len(predicted.edges) - len(plain.edges)
        sentence = f"{dropped} predicted self-pairs do not count inside complexes"
        notes = [Remark(sentence)] if dropped else []
        return TaskResult(vars(compare_complexes(plain, self.complexes)), notes=notes)


@dataclass(frozen=True)
class ComplexMetrics:
    """How well known complexes are recovered: means over distinct complexes, 0 to 1."""

    complex_count: int
    pathway_recall: float
    pathway_precision: float
    pathway_connectivity: float


def compare_complexes(predicted: Network, true_complexes: Sequence[Network]) -> ComplexMetrics:
    """Compare the predicted interactions inside each known complex with the known ones.

    Recall is the share of true pairs that are predicted, precision the share of predicted pairs
    that are true (0 where nothing is predicted), connectivity whether the predicted pairs join the
    whole complex, whether or not the true one is connected. Self-pairs count as pairs. Of complexes
    with the same proteins, only the first counts.

    Args:
        predicted: The predicted network; pairs that lie in no complex do not count.
        true_complexes: At least one complex: its proteins and their interactions.
    """
    distinct = {true.nodes: true for true in reversed(true_complexes)}.values()
    predicted = predicted.on({name for true in distinct for name in true.nodes})
    recalls, precisions, joined = [], [], []
    for true in distinct:
        guess = predicted.on(true.nodes)
        guessed, known = set(map(tuple, guess.edges.tolist())), set(map(tuple, true.edges.tolist()))
        hits = len(guessed & known)
        recalls.append(hits / len(known) if known else 0.0)
        precisions.append(hits / len(guessed) if guessed else 0.0)
        joined.append(guess.is_connected())
    return ComplexMetrics(
        complex_count=len(distinct),
        pathway_recall=float(np.mean(recalls)),
        pathway_precision=float(np.mean(precisions)),
        pathway_connectivity=float(np.mean(joined)),
    )
