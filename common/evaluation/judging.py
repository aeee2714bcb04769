"""Evaluate the predictions of a model or of a prediction file on all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.errors import count_of
from common.evaluation.calibration_report import CalibrationReport
from common.evaluation.closing import closing_sentence, compare_numbers, verdict
from common.evaluation.network_summary import NetworkSummary, summarize_networks
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import TaskResult
from common.evaluation.tasks.pairs import INTERVALS_FILE
from common.evaluation.test_side import TestSide
from common.inference.thresholds import Threshold


@dataclass
class Judgement:
    """The results of an evaluation: the tasks' metrics, notes, and network densities.

    Attributes:
        results: The results by task.
        notes: Sentences about the predictions and results, in the order of their logging.
        threshold: The decision threshold.
        networks: The predicted networks of all species for which a task uses all pairs.
        validation: The model's metrics on its validation pairs; empty for a prediction file.
        baselines: The test AUROC of each baseline that was evaluated, too.
        calibration: The calibration error of the model's probabilities, if they are calibrated.
    """

    results: Mapping[str, TaskResult]
    notes: list[str]
    threshold: Threshold
    networks: Sequence[NetworkSummary] = ()
    validation: Mapping[str, float | None] = field(default_factory=dict)
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    calibration: CalibrationReport | None = None

    def closing(self) -> str | None:
        """Return a sentence that compares the main results, or None without such results."""
        return closing_sentence(self._compare())

    def verdict(self) -> list[str]:
        """Return at most three sentences that compare the main results with each other."""
        return verdict(self._compare())

    def _compare(self) -> list[str]:
        pairs = self.results.get("pairs")
        rows = pairs.tables["evaluate.csv"].rows if pairs else ()
        documents = pairs.documents if pairs else {}
        # The intervals come from a bootstrap over proteins, unless bootstrapping is switched off.
        intervals = documents.get(INTERVALS_FILE, {}).get("differences", {})
        differences = {
            name: (metrics["auroc"]["low"], metrics["auroc"]["high"])
            for name, metrics in intervals.items()
            if "auroc" in metrics
        }
        return compare_numbers(self.networks, rows, self.validation, self.baselines, differences)


def judge(
    side: TestSide, predictions: Predictions, threshold: float, mode: str = "fixed"
) -> Judgement:
    """Evaluate predictions on all tasks; pairs without a score count as not predicted.

    Args:
        side: The tasks and their data.
        predictions: The scores of pairs.
        threshold: The lowest score of a predicted interaction.
        mode: The threshold mode that chose the threshold.
    """
    tasks = side.tasks
    notes = [*predictions.notes, *describe_unused(side, predictions)]
    # Tasks that use the same network give the same notes, so repeated notes are dropped.
    notes += dict.fromkeys(note for task in tasks.values() for note in task.coverage(predictions))
    results = {name: task.judge(predictions, threshold) for name, task in tasks.items()}
    notes += [note for result in results.values() for note in result.notes]
    networks = summarize_networks(side, predictions, threshold)
    notes += [sentence for network in networks for sentence in network.warnings()]
    return Judgement(results, notes, Threshold(threshold, mode), networks)


def describe_unused(side: TestSide, predictions: Predictions) -> list[str]:
    """Return a note about listed pairs that no task uses, or an empty list without such pairs."""
    unused = np.flatnonzero(~used_pairs(side, predictions))
    if not len(unused):
        return []
    example = " ".join(predictions.ids[end] for end in predictions.pairs[unused[0]])
    subject = count_of(len(unused), "listed pair is", "listed pairs are")
    return [f"{subject} not used by any requested task (such as {example})"]


def used_pairs(side: TestSide, predictions: Predictions) -> NDArray[np.bool_]:
    """Return which of the predicted pairs any task uses, as a mask (P,)."""
    used: NDArray[np.bool_] = np.zeros(len(predictions.pairs), dtype=np.bool_)
    for pairs in side.pair_sets:
        used |= pairs.among(predictions)
    return used
