"""Evaluate the functions of network modules, as PRING's `enrichment_analysis` task does.

Docstrings mention any differences from the original (github.com/SophieSarceau/PRING).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import networkx as nx
import numpy as np

from common.config import Config
from common.data.benchmarks.pickles import load_go_terms
from common.evaluation.networks import Network
from common.evaluation.pair_sets import PairSet
from common.evaluation.plots import chart_degrees
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import Task, TaskResult
from common.evaluation.tasks.enrichment import (
    Annotations,
    Enrichment,
    GoTerms,
    GProfiler,
    OfflineEnrichment,
)
from common.evaluation.test_set import TestSet

LOUVAIN_SEED = 42
MATCHING_JACCARD = 0.2


class GoModules(Task):
    """Computes how similar the functions of predicted and true modules of a species are."""

    name = "go_modules"
    title = "Functional modules"
    question = (
        "Do the modules of the predicted network share functions (GO terms)? A consistency ratio "
        "of 1 is best; a higher functional alignment is better."
    )
    better = MappingProxyType({"consistency_ratio": "1 is best", "functional_alignment": "higher"})
    files = ("test_go_terms.pkl",)

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        super().__init__(sets, config)
        self.go_terms = load_go_terms(self.path("test_go_terms.pkl"))
        with self.own.explaining_misfit():
            self.annotations = Annotations.of(self.own.network.nodes, self.go_terms)
        asked = self.settings.enrichment == "gprofiler"
        self.enrichment = GProfiler.of_species(self.own.species) if asked else None

    def asks(self) -> list[PairSet]:
        """Return all pairs of the test proteins."""
        return [self.own.network_pairs]

    def describe(self) -> dict[str, object]:
        """Return how many test proteins have GO terms, as a field of the event `data_ready`."""
        annotated = self.annotations.annotated
        return {"go_terms": f"of {annotated.sum()} of {len(annotated)} test proteins"}

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the functions of the modules of the predicted and of the true network."""
        predicted, true = predictions.edges(threshold), self.own.network
        metrics = compare_modules(predicted, true, self.go_terms, enrichment=self.enrichment)
        chart = chart_degrees(predicted, true, self.own.species)
        return TaskResult(vars(metrics), charts={"degrees.png": chart})


@dataclass(frozen=True)
class ModuleMetrics:
    """Metrics of how similar the functions of predicted modules are to those of true modules.

    The consistency ratio is None if no modules match or if no members of the true modules share a
    term. The functional alignment is None if no modules match. `enrichment` is the test's name.
    """

    predicted_modules: int
    true_modules: int
    matched_modules: int
    consistency_ratio: float | None
    functional_alignment: float | None
    enrichment: str


def compare_modules(
    predicted: Network,
    true: Network,
    go_terms: GoTerms,
    source: str = "GO:BP",
    enrichment: Enrichment | None = None,
) -> ModuleMetrics:
    """Compare the functions of predicted modules with those of the matching true modules.

    Modules are Louvain communities. Each predicted module is matched with the true module that has
    the highest Jaccard index of proteins, if this index is at least 0.2. Over all matches,

    - the consistency ratio is the mean similarity within predicted modules, divided by that within
      true modules. The similarity within a module is the mean Jaccard index of the GO terms of two
      members, over all pairs that share a term; modules without such pairs are left out.
    - the functional alignment is the mean Jaccard index of the enriched terms of the two modules,
      or 0 if neither module has enriched terms. PRING finds enriched terms with g:Profiler; see
      the module `enrichment`.

    Args:
        predicted: The predicted network; proteins outside the true network are ignored.
        true: The true network.
        go_terms: GO terms by protein id and aspect (`go_p`, `go_f`, `go_c`).
        source: GO:BP, GO:MF or GO:CC.
        enrichment: The test that finds enriched terms; `OfflineEnrichment` if None.

    Raises:
        UserError: The source is unknown, or no protein has a term of this source.
    """
    annotations = Annotations.of(true.nodes, go_terms, source)
    enriched = enrichment or OfflineEnrichment(annotations)
    guesses, truths = find_modules(predicted.on(true.nodes)), find_modules(true)
    matches = match_modules(guesses, truths)
    return ModuleMetrics(
        predicted_modules=len(guesses),
        true_modules=len(truths),
        matched_modules=len(matches),
        consistency_ratio=_consistency(matches, annotations),
        functional_alignment=_alignment(matches, true.nodes, enriched),
        enrichment=enriched.name,
    )


Module = frozenset[int]
Match = tuple[Module, Module]


def find_modules(network: Network) -> list[Module]:
    """Find Louvain communities (Blondel et al., 2008; resolution 1, seed 42), as node indices.

    The graph is built from sorted nodes and edges, so equal networks give equal communities.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(len(network.nodes)))
    graph.add_edges_from(network.edges.tolist())
    found = nx.community.louvain_communities(graph, resolution=1, seed=LOUVAIN_SEED)
    return [frozenset(module) for module in found]


def match_modules(predicted: Sequence[Module], true: Sequence[Module]) -> list[Match]:
    """Match each predicted module with the most similar true module (Jaccard index ≥ 0.2)."""
    matches = []
    for guess in predicted:
        best = max(true, key=lambda truth: _jaccard(guess, truth))
        if _jaccard(guess, best) >= MATCHING_JACCARD:
            matches.append((guess, best))
    return matches


def _jaccard(first: Collection[object], second: Collection[object]) -> float:
    either = len(set(first) | set(second))
    return len(set(first) & set(second)) / either if either else 0.0


def _consistency(matches: Sequence[Match], annotations: Annotations) -> float | None:
    guessed = [annotations.mean_similarity(guess) for guess, _ in matches]
    actual = [annotations.mean_similarity(truth) for _, truth in matches]
    if not any(actual):
        return None
    return _mean_of_positive(guessed) / _mean_of_positive(actual)


def _mean_of_positive(values: Sequence[float]) -> float:
    positive = [value for value in values if value > 0]
    return float(np.mean(positive)) if positive else 0.0


def _alignment(
    matches: Sequence[Match], names: Sequence[str], enriched: Enrichment
) -> float | None:
    if not matches:
        return None
    overlaps = [
        _jaccard(*(enriched([names[place] for place in module]) for module in match))
        for match in matches
    ]
    return float(np.mean(overlaps))
