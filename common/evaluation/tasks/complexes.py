"""Evaluate whether known protein complexes are recovered, as PRING's `complex_pathway` task does.

Docstrings mention any differences from the original (github.com/SophieSarceau/PRING).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from common.config import Config
from common.data.benchmarks.pickles import load_graphs
from common.data.tables.fasta import read_sequences
from common.errors import count_of
from common.evaluation.networks import Network
from common.evaluation.pair_sets import PairSet, Remark
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import Task, TaskResult
from common.evaluation.test_set import TestSet


class Complexes(Task):
    """Computes how well known complexes, also of proteins outside the test set, are recovered."""

    name = "complexes"
    title = "Protein complexes"
    question = (
        "Are known complexes recovered? Recall, precision and connectivity are means over "
        "complexes; higher is better."
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
        """Return all pairs of different proteins of a complex, as in the benchmark's pair file."""
        nodes = (network.nodes for network in self.complexes)
        network = Network.from_pairs(
            {*itertools.chain(*(itertools.combinations(n, 2) for n in nodes))}
        )
        return [PairSet("the complexes", network.nodes, network.edges)]

    def sequences(self) -> dict[str, str]:
        """Return the sequences of all proteins in complexes, by protein id."""
        return read_sequences(self.path("complex_proteins.fasta"), self.own.benchmark.cache_dir)

    def describe(self) -> dict[str, object]:
        """Return the number of complexes as a field of the event `data_ready`."""
        return {"complexes": len(self.complexes)}

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compute recall, precision and connectivity of complexes, ignoring self-pairs.

        The benchmark's pairs inside complexes contain no self-pairs, and it depends on the other
        requested tasks whether a model has scored self-pairs.
        """
        members = {name for network in self.complexes for name in network.nodes}
        predicted = predictions.edges(threshold).on(members)
        plain = predicted.without_self_pairs()
        dropped = len(predicted.edges) - len(plain.edges)
        subject = count_of(dropped, "predicted self-pair is", "predicted self-pairs are")
        notes = [Remark(f"{subject} ignored (inside complexes)")] if dropped else []
        return TaskResult(vars(compare_complexes(plain, self.complexes)), notes=notes)


@dataclass(frozen=True)
class ComplexMetrics:
    """Metrics of the recovery of known complexes, as means over distinct complexes, 0 to 1."""

    complex_count: int
    pathway_recall: float
    pathway_precision: float
    pathway_connectivity: float


def compare_complexes(predicted: Network, true_complexes: Sequence[Network]) -> ComplexMetrics:
    """Compare predicted with known interactions inside each known complex.

    Recall is the fraction of true pairs that are predicted, and precision the fraction of predicted
    pairs that are true (0 without predicted pairs). Connectivity is 1 if the predicted pairs
    connect the whole complex, even if the true pairs do not, and 0 otherwise. Self-pairs count as
    pairs. Of several complexes with the same proteins, only the first counts.

    Args:
        predicted: The predicted network; pairs outside all complexes are ignored.
        true_complexes: The proteins and interactions of each complex; at least one complex.
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
