"""Metrics of pair predictions: how well scores rank the pairs, and how good the calls are.

A pair is called an interaction if its probability is at least the threshold, both as float64
(`call_pairs`). A metric that the pairs leave undefined is None, is written as an empty cell, and is
named in a warning:

| metric | undefined if |
|---|---|
| auroc, auprc | the labels are of one class only |
| sensitivity, recall | there is no positive pair |
| specificity | there is no negative pair |
| precision | nothing is called positive |
| f1 | neither a positive pair nor a positive call; with either, no hit means 0 |
| mcc | one class only, or all pairs called alike |
| accuracy | there are no pairs |

A defined metric equals scikit-learn's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Imported at the top, because importing it draws from the global random state, which a resumed run
# must find as it was saved.
from sklearn.metrics import average_precision_score, roc_auc_score

from common.config_data import METRIC_NAMES
from common.inference.thresholds import call_pairs, check_scores

logger = logging.getLogger("relic")

Metrics = dict[str, float | None]

RANKINGS = {"auroc": roc_auc_score, "auprc": average_precision_score}


def pair_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    threshold: float = 0.5,
    names: Sequence[str] = METRIC_NAMES,
) -> Metrics:
    """Compute the metrics of scored pairs; warn about those that are undefined.

    Args:
        probabilities: (N,) scores of the pairs; auroc and auprc take any finite score.
        labels: (N,) zeros and ones.
        threshold: The lowest probability that is called an interaction.
        names: The metrics wanted, of `METRIC_NAMES`, in the order of the result.

    Returns:
        Each metric by its name; None where the module's table says undefined.

    Raises:
        ValueError: Scores that are not finite, labels other than 0 and 1, or lengths that differ.
    """
    scores, truth = check_scores(probabilities, labels)
    calls = Calls.count(call_pairs(scores, threshold), truth)
    rates = calls.compute_rates()
    metrics: Metrics = {
        name: rates[name] if name in rates else _compute_ranking(name, scores, truth)
        for name in names
    }
    undefined = [name for name, value in metrics.items() if value is None]
    if undefined:
        logger.warning(
            "metrics_undefined | metrics=%s | positives=%d | negatives=%d | called_positive=%d",
            ",".join(undefined),
            calls.positives,
            calls.negatives,
            calls.called,
        )
    return metrics


@dataclass(frozen=True)
class Calls:
    """The confusion matrix of calls: true and false positives, true and false negatives."""

    tp: int
    fp: int
    tn: int
    fn: int

    @classmethod
    def count(cls, called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Calls:
        """Count calls (N,) against labels (N,)."""
        tp = int(np.count_nonzero(called & truth))
        fp = int(np.count_nonzero(called)) - tp
        fn = int(np.count_nonzero(truth)) - tp
        return cls(tp=tp, fp=fp, tn=truth.size - tp - fp - fn, fn=fn)

    @property
    def positives(self) -> int:
        """Pairs that interact."""
        return self.tp + self.fn

    @property
    def negatives(self) -> int:
        """Pairs that do not interact."""
        return self.tn + self.fp

    @property
    def called(self) -> int:
        """Pairs called interactions."""
        return self.tp + self.fp

    def compute_rates(self) -> Metrics:
        """Every metric that follows from the counts alone."""
        sensitivity = _divide(self.tp, self.positives)
        return {
            "accuracy": _divide(self.tp + self.tn, self.positives + self.negatives),
            "sensitivity": sensitivity,
            "specificity": _divide(self.tn, self.negatives),
            "precision": _divide(self.tp, self.called),
            "recall": sensitivity,
            "f1": _divide(2 * self.tp, self.called + self.positives),
            "mcc": self._correlate(),
        }

    def _correlate(self) -> float | None:
        """Matthews' correlation coefficient (Matthews 1975): the phi of the 2 × 2 table."""
        margins = self.called * self.positives * self.negatives * (self.tn + self.fn)
        return _divide(self.tp * self.tn - self.fp * self.fn, math.sqrt(margins))


def _compute_ranking(
    name: str, scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> float | None:
    compute = RANKINGS[name]
    return float(compute(truth, scores)) if truth.any() and not truth.all() else None


def _divide(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
