"""Do a network's modules share functions? The metrics of PRING's `enrichment_analysis` task.

(See github.com/SophieSarceau/PRING; the docstrings name our deviations.)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

from common.config import Config
from common.data.benchmarks.pickles import load_go_terms
from common.evaluation.networks import Network
from common.evaluation.plots import chart_degrees
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import PairSet, Task, TaskResult
from common.evaluation.tasks.enrichment import (
    Annotations,
    Enrichment,
    GoTerms,
    GProfiler,
    OfflineEnrichment,
)

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet

LOUVAIN_SEED = 42
MATCHING_JACCARD = 0.2


class GoModules(Task):
    """The metrics of the configured species' modules."""

    name = "go_modules"
    title = "Functional modules"
    question = (
        "Do the modules of the predicted network share functions (GO terms)? A consistency ratio "
        "of 1 is right; a higher functional alignment is better."
    )
    better = MappingProxyType({"consistency_ratio": "1 is right", "functional_alignment": "higher"})
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
        """Return how many test proteins have GO terms."""
        annotated = self.annotations.annotated
        return {"go_terms": f"of {annotated.sum()} of {len(annotated)} test proteins"}

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the modules of the predicted network with those of the true one."""
        predicted, true = predictions.edges(threshold), self.own.network
        metrics = compare_modules(predicted, true, self.go_terms, enrichment=self.enrichment)
        chart = chart_degrees(predicted, true, self.own.species)
        return TaskResult(vars(metrics), charts={"degrees.png": chart})


@dataclass(frozen=True)
class ModuleMetrics:
    """How similar the functions of predicted modules are to those of the true ones.

    The ratio is None where it has no value: nothing matched, or no terms shared within the true
    modules. The alignment is None where nothing matched; `enrichment` names the test.
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
    """Compare the functions of predicted modules with those of the true modules they match.

    Modules are Louvain communities. Each predicted module is matched to the true one with the
    highest Jaccard index of proteins, if that is at least 0.2. Over the matches,

    - the consistency ratio is predicted over true mean within-module similarity, where a module's
      similarity is the mean Jaccard index of the GO terms of two members, over those that share
      any, and modules without such members do not count;
    - the functional alignment is the mean Jaccard index of the enriched terms of the two modules,
      0 where neither has any. The benchmark enriches through g:Profiler; see `enrichment`.

    Args:
        predicted: The predicted network; pairs outside the true network's proteins do not count.
        true: The true network.
        go_terms: Protein id to aspect (`go_p`, `go_f`, `go_c`) to GO terms.
        source: GO:BP, GO:MF or GO:CC.
        enrichment: How to find enriched terms; offline if None.

    Raises:
        UserError: The source is unknown or no protein has a term of it.
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
    """Find Louvain communities (Blondel et al., 2008; resolution 1, seed 42): indices of nodes.

    The graph is built from sorted nodes and edges, so the result depends on the network alone.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(len(network.nodes)))
    graph.add_edges_from(network.edges.tolist())
    found = nx.community.louvain_communities(graph, resolution=1, seed=LOUVAIN_SEED)
    return [frozenset(module) for module in found]


def match_modules(predicted: Sequence[Module], true: Sequence[Module]) -> list[Match]:
    """Match each predicted module with the most similar true one, if its Jaccard index is ≥ 0.2."""
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
