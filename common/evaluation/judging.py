"""Judge predictions on all tasks, in the same way for a model and a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.config import DecisionThresholdConfig
from common.evaluation.calibration_report import CalibrationReport
from common.evaluation.closing import closing_sentence, compare_numbers, verdict
from common.evaluation.network_summary import NetworkSummary, Threshold, summarize_networks
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import TaskResult
from common.evaluation.tasks.pairs import INTERVALS_FILE
from common.evaluation.test_side import TestSide
from common.inference.thresholds import mode_of


@dataclass
class Judgement:
    """The result of every task, the notes about all of them in order, and whole networks.

    Attributes:
        results: The results by task.
        notes: One sentence each.
        threshold: The score from which pairs are called.
        networks: The predicted networks of all species for which some task uses all pairs.
        validation: The model's metrics on its validation pairs, if a model was judged.
        baselines: The test AUROC of each baseline that was judged beside the model.
        calibration: How good the model's probabilities are, if they are calibrated.
    """

    results: Mapping[str, TaskResult]
    notes: list[str]
    threshold: Threshold
    networks: Sequence[NetworkSummary] = ()
    validation: Mapping[str, float | None] = field(default_factory=dict)
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    calibration: CalibrationReport | None = None

    def closing(self) -> str | None:
        """Return the closing sentence; None if there is nothing to compare."""
        return closing_sentence(self._compare())

    def verdict(self) -> list[str]:
        """Return the closing comparison as at most three sentences."""
        return verdict(self._compare())

    def _compare(self) -> list[str]:
        pairs = self.results.get("pairs")
        rows = pairs.tables["evaluate.csv"].rows if pairs else ()
        documents = pairs.documents if pairs else {}
        # Of the resamples by protein, if there are any.
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
    """Judge predictions on all tasks of a test side; a pair without a score is not predicted.

    Args:
        side: The tasks and their data.
        predictions: Scores of pairs.
        threshold: The score from which a pair is called an interaction.
        mode: The threshold mode that chose it.
    """
    tasks = side.tasks
    notes = [*predictions.notes, *describe_unused(side, predictions)]
    # Tasks that share a network give the same notes about it.
    notes += dict.fromkeys(note for task in tasks.values() for note in task.coverage(predictions))
    results = {name: task.judge(predictions, threshold) for name, task in tasks.items()}
    notes += [note for result in results.values() for note in result.notes]
    networks = summarize_networks(side, predictions, threshold)
    notes += [sentence for network in networks for sentence in network.warnings()]
    return Judgement(results, notes, Threshold(threshold, mode), networks)


def describe_unused(side: TestSide, predictions: Predictions) -> list[str]:
    """Note how many listed pairs are not used by any task."""
    unused = np.flatnonzero(~used_pairs(side, predictions))
    if not len(unused):
        return []
    example = " ".join(predictions.ids[end] for end in predictions.pairs[unused[0]])
    return [
        f"{len(unused)} listed pairs (such as {example}) are not used by any requested task and are"
        " ignored"
    ]


def used_pairs(side: TestSide, predictions: Predictions) -> NDArray[np.bool_]:
    """Find which of the predicted pairs are used by a task, (P,)."""
    used: NDArray[np.bool_] = np.zeros(len(predictions.pairs), dtype=np.bool_)
    for pairs in side.pair_sets:
        used |= pairs.among(predictions)
    return used


def describe_scores(predictions: Predictions, settings: DecisionThresholdConfig) -> list[str]:
    """Note how many pairs the threshold calls if a file's scores are not probabilities."""
    scores, threshold = predictions.scores, settings.value
    notes = []
    called = int((scores >= threshold).sum())
    if len(scores) and not (called and scores.min() >= 0 and scores.max() <= 1):
        notes.append(
            f"the scores run from {scores.min():g} to {scores.max():g}, and the threshold"
            f" (evaluate.decision_threshold.value, {threshold:g}) calls {called} of {len(scores)}"
            " pairs"
        )
    if mode_of(settings).needs_validation:
        notes.append(
            f"evaluate.decision_threshold.value ({threshold}) is the threshold: a file has no"
            " validation pairs from which to choose one"
        )
    return notes
