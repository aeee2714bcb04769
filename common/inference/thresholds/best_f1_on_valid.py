"""The threshold mode `best_f1_on_valid`, which maximises F1 on the monitored validation pairs.

Half of these pairs interact, but only a few percent of all pairs of new proteins, so the network
that such a threshold predicts is far too dense. For networks, use `match_density`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from common.config import DecisionThresholdConfig
from common.inference.thresholds import Choice, Evidence, ThresholdMode, check_scores
from common.inference.thresholds.levels import Levels


def best_f1_threshold(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Find the threshold whose calls have the highest F1.

    Of several best thresholds the highest is chosen, which calls the fewest pairs interactions.

    Args:
        probabilities: (N,) scores of the pairs.
        labels: (N,) zeros and ones.

    Raises:
        ValueError: The labels are of one class only, or `check_scores` refuses the input.
    """
    scores, truth = check_scores(probabilities, labels)
    positives = int(truth.sum())
    if positives in (0, truth.size):
        raise ValueError(
            "the best F1 threshold needs both classes,"
            f" not {positives} positive and {truth.size - positives} negative pairs"
        )
    levels = Levels.of(scores)
    called, hits = levels.add_up(np.ones(truth.size)), levels.add_up(truth)
    # F1 = 2 TP / (2 TP + FP + FN); equal fractions divide to equal floats, so ties are exact.
    return levels.threshold(int(np.argmax(2 * hits / (called + positives))))


def _choose(_: DecisionThresholdConfig, evidence: Evidence) -> Choice:
    return Choice(best_f1_threshold(evidence.scores, evidence.labels))


MODE = ThresholdMode(
    _choose,
    needs_validation=True,
    needs_both_classes=True,
    meaning="the highest F1 on the validation pairs",
)
