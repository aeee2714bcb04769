"""Predictions judged on the benchmark's five tasks: the same figures for a model and for a file.

| task | asks |
|---|---|
| pairs | are the labelled test pairs ranked and called right, with and without self-pairs? |
| topology | does the predicted network look like the true one on sampled sets of proteins? |
| complexes | are the interactions inside known complexes found? |
| go_modules | do the network's modules share functions as the true ones do? |
| essential_proteins | are the essential proteins as central as they are? |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import EvaluateConfig, Strategy
from common.data.tables.pairs import PairTable
from common.evaluation.coverage import describe_coverage, tell_missing
from common.evaluation.networks import Network
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.complexes import compare_complexes
from common.evaluation.tasks.enrichment import GProfiler
from common.evaluation.tasks.essential_proteins import EssentialFigures, compare_essential
from common.evaluation.tasks.go_modules import compare_modules
from common.evaluation.tasks.topology import TopologyRow, describe_node_sets, topology
from common.evaluation.test_side import FunctionalData, Materials, Scope
from common.inference.pair_metrics import Figures

HIGHEST = np.finfo(np.float64).max / 4  # sums and differences of two are finite
# (scores, labels, threshold, names) -> figures by name
Measure = Callable[[NDArray[np.float64], NDArray[np.int8], float, Sequence[str]], Figures]


@dataclass
class Judgement:
    """The figures of all tasks, filled in task by task.

    Attributes:
        species: The configured species.
        pairs: Figures by split: `test`, `test_without_self_pairs`, and `test_{species}` of others.
        topology: Rows by species and strategy, the configured one first.
        functional: What `functional.json` holds, by task.
        essential: The centralities behind the figures, for the picture.
        degrees: Predicted and true degrees of the configured species, for the picture.
        notes: What was ignored, missing or undefined, one line each.
    """

    species: str
    pairs: dict[str, Figures] = field(default_factory=dict)
    topology: dict[tuple[str, Strategy], list[TopologyRow]] = field(default_factory=dict)
    functional: dict[str, dict[str, Any]] = field(default_factory=dict)
    essential: EssentialFigures | None = None
    degrees: tuple[np.ndarray, np.ndarray] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Criteria:
    """How predictions are judged.

    Attributes:
        threshold: From which score on a pair is predicted to interact.
        settings: Which pair figures are wanted, and the enrichment test.
        measure: Computes the pair figures.
    """

    threshold: float
    settings: EvaluateConfig
    measure: Measure


def judge(materials: Materials, predictions: Predictions, criteria: Criteria) -> Judgement:
    """Judge predictions on all tasks that the materials were opened for.

    A pair that is not listed counts as not predicted.
    """
    own = materials.scopes[0]
    judgement = Judgement(own.species, notes=list(predictions.notes))
    predicted = predictions.edges(criteria.threshold)
    judgement.notes += describe_coverage(predictions, materials)
    if own.network is not None:
        judgement.degrees = (predicted.on(own.network.nodes).degrees(), own.network.degrees())
    for scope in materials.scopes:
        if "pairs" in materials.tasks:
            name = "test" if scope is own else f"test_{scope.species}"
            _judge_pairs(name, scope, predictions, criteria, judgement)
        if "topology" in materials.tasks:
            _judge_topology(scope, predicted, judgement)
    if materials.functional is not None:
        _judge_functions(own, materials.functional, predicted, criteria, judgement)
    return judgement


def _judge_pairs(
    name: str,
    scope: Scope,
    predictions: Predictions,
    criteria: Criteria,
    judgement: Judgement,
) -> None:
    assert scope.table is not None
    scores, missing = scores_of_table(scope.table, predictions, criteria.threshold)
    if missing:
        lowest = ", and ranked lowest, which auroc and auprc then measure too"
        note = tell_missing(missing, len(scores), name)
        judgement.notes.append(note + lowest * (missing < len(scores)))
    between = ~scope.table.is_self
    for split, chosen in ((name, slice(None)), (f"{name}_without_self_pairs", between)):
        judgement.pairs[split] = criteria.measure(
            scores[chosen],
            scope.table.labels[chosen],
            criteria.threshold,
            criteria.settings.metrics,
        )


def scores_of_table(
    table: PairTable, predictions: Predictions, threshold: float
) -> tuple[NDArray[np.float64], int]:
    """Scores of a table's pairs, and how many of them are not listed.

    What is not listed gets the score of "surely not": 0, or the lowest score of these pairs if
    that is below, or the next number below the threshold, so that it is never called.
    """
    scores = predictions.scores_of(table.proteins, table.pairs)
    missing = np.isnan(scores)
    lowest = float(scores[~missing].min(initial=0.0))
    scores[missing] = min(lowest, float(np.nextafter(threshold, -np.inf)))
    # An infinite score is a rank like any other: above, or below, all that are finite.
    return np.clip(scores, -HIGHEST, HIGHEST), int(missing.sum())


def _judge_topology(scope: Scope, predicted: Network, judgement: Judgement) -> None:
    assert scope.network is not None
    for strategy, node_sets in scope.node_sets.items():
        judgement.notes += describe_node_sets(node_sets, scope.network)
        rows = topology(predicted, scope.network, node_sets)
        judgement.topology[scope.species, strategy] = rows


def _inside_complexes(
    predicted: Network, true_complexes: Sequence[Network]
) -> tuple[Network, list[str]]:
    """What the complexes are compared with: the benchmark's own pairs inside them lack self-pairs.

    Whether a model has scored them depends on what else it is judged on.
    """
    predicted = predicted.on({name for true in true_complexes for name in true.nodes})
    plain = predicted.without_self_pairs()
    dropped = len(predicted.edges) - len(plain.edges)
    notes = [f"{dropped} predicted self-pairs do not count inside complexes"] if dropped else []
    return plain, notes


def _judge_functions(
    scope: Scope,
    data: FunctionalData,
    predicted: Network,
    criteria: Criteria,
    judgement: Judgement,
) -> None:
    true = scope.network
    if data.complexes:
        inside, notes = _inside_complexes(predicted, data.complexes)
        judgement.notes += notes
        judgement.functional["complexes"] = vars(compare_complexes(inside, data.complexes))
    if data.go_terms is not None and true is not None:
        enrichment = None
        if criteria.settings.enrichment == "gprofiler":
            enrichment = GProfiler.of_species(scope.species)
        modules = compare_modules(predicted, true, data.go_terms, enrichment=enrichment)
        judgement.functional["go_modules"] = vars(modules)
    if data.essential and true is not None:
        figures = compare_essential(predicted, true, data.essential, data.non_essential)
        judgement.essential = figures
        judgement.notes += figures.notes
        judgement.functional["essential_proteins"] = {
            "precision_at_100": figures.precision_at_100,
            "precision_at_100_ties_shared": figures.precision_at_100_ties_shared,
            "distribution_overlap": figures.distribution_overlap,
            "top": figures.top,
        }
