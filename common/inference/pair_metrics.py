"""Compute metrics of pair predictions, for the ranking by score and for the calls.

A pair is called an interaction if its probability is at least the threshold, both as float64
(`call_pairs`). A metric that the pairs leave undefined is None, is written as an empty cell, and is
named in a warning:

| metric | undefined if |
|---|---|
| auroc, auprc | the labels are of one class only |
| sensitivity, recall | there is no positive pair |
| specificity | there is no negative pair |
| precision | nothing is called positive |
| f1 | there is neither a positive pair nor a positive call (with either, no hit means 0) |
| mcc | there is one class only, or all pairs get the same call |
| accuracy | there are no pairs |

A defined metric equals scikit-learn's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Imported at the top: importing scikit-learn draws from the global random state, which must not
# change after a resumed run has restored it.
from sklearn.metrics import average_precision_score, roc_auc_score

from common.config_data import METRIC_NAMES
from common.inference.thresholds import call_pairs, check_scores

logger = logging.getLogger("relic")

Metrics = dict[str, float | None]
Values = NDArray[np.float64]

RANKINGS = {"auroc": roc_auc_score, "auprc": average_precision_score}


def pair_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    threshold: float = 0.5,
    names: Sequence[str] = METRIC_NAMES,
    *,
    warn: bool = True,
) -> Metrics:
    """Compute the metrics of scored pairs, and warn about undefined metrics.

    Args:
        probabilities: (N,) scores of the pairs; auroc and auprc take any finite score.
        labels: (N,) zeros and ones.
        threshold: The lowest probability that is called an interaction.
        names: The requested metrics, from `METRIC_NAMES`, in the order of the result.
        warn: Whether to log a warning; False where pairs of one class are to be expected.

    Returns:
        Each metric by its name; None where the module's table says undefined.

    Raises:
        ValueError: Scores that are not finite, labels other than 0 and 1, or lengths that differ.
    """
    scores, truth = check_scores(probabilities, labels)
    calls = Calls.count(call_pairs(scores, threshold), truth)
    rates = calls.compute_rates()
    metrics: Metrics = {
        name: none_if_nan(rates[name]) if name in rates else _compute_ranking(name, scores, truth)
        for name in names
    }
    undefined = [name for name, value in metrics.items() if value is None]
    if undefined and warn:
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
    """The confusion matrix of calls: true and false positives, true and false negatives.

    The counts are whole numbers, of any shape: one for each weighting of the pairs.
    """

    tp: Values
    fp: Values
    tn: Values
    fn: Values

    @classmethod
    def count(cls, called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Calls:
        """Count true and false calls, given the calls (N,) and the labels (N,)."""
        cells = (called & truth, called & ~truth, ~called & ~truth, ~called & truth)
        return cls(*np.array([np.count_nonzero(cell) for cell in cells], dtype=np.float64))

    @property
    def positives(self) -> Values:
        """The number of pairs that interact."""
        return self.tp + self.fn

    @property
    def negatives(self) -> Values:
        """The number of pairs that do not interact."""
        return self.tn + self.fp

    @property
    def called(self) -> Values:
        """The number of pairs that are called interactions."""
        return self.tp + self.fp

    def compute_rates(self) -> dict[str, Values]:
        """Compute every metric that depends on the counts alone; NaN where undefined."""
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

    def _correlate(self) -> Values:
        """Compute the Matthews correlation coefficient (Matthews 1975)."""
        # In float64: the product of the four margins of a million pairs is beyond int64.
        margins = self.called * self.positives * self.negatives * (self.tn + self.fn)
        return _divide(self.tp * self.tn - self.fp * self.fn, np.sqrt(margins))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Pairs in descending order of their scores, to compute metrics under many weightings at once.

    Attributes:
        order: (N,) row numbers of the pairs, highest score first.
        truth: (N,) int32, the labels in this order.
        ends: (L + 1,) 0, and then for each of L distinct scores, in descending order, the number of
            pairs with at least this score.
        called: The number of pairs that are called interactions.
    """

    order: NDArray[np.int64]
    truth: NDArray[np.int32]
    ends: NDArray[np.int64]
    called: int

    @classmethod
    def of(cls, probabilities: ArrayLike, labels: ArrayLike, threshold: float) -> Ranking:
        """Sort pairs by score; the arguments have the same meaning as in `pair_metrics`."""
        scores, truth = check_scores(probabilities, labels)
        order = np.argsort(-scores, kind="stable")
        ends = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) != 0, [True]]))
        called = int(call_pairs(scores, threshold).sum())
        return cls(order, truth[order].astype(np.int32), ends, called)

    def measure(self, weights: NDArray[np.integer[Any]]) -> dict[str, Values]:
        """Compute every metric of `METRIC_NAMES` under each weighting; NaN where undefined.

        Args:
            weights: (B, N) how often each pair counts, in the order of the ranking. Twice the sum
                of a row must be within the integer type.

        Returns:
            (B,) values by name, equal to those of `pair_metrics` on pairs repeated that often.
        """
        everything, hits = _accumulate(weights), _accumulate(weights * self.truth)
        totals, called = (np.stack([hits[:, k], everything[:, k]]) for k in (-1, self.called))
        (positives, total), (tp, calls) = totals.astype(np.float64), called.astype(np.float64)
        fp, fn = calls - tp, positives - tp
        rates = Calls(tp=tp, fp=fp, tn=total - calls - fn, fn=fn).compute_rates()
        return {
            **_rank(*(np.take(sums, self.ends, axis=1) for sums in (hits, everything))),
            **rates,
        }


def _accumulate(weights: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Compute the sums (B, N + 1) of the first 0, 1, …, N columns."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, dtype=weights.dtype, out=sums[:, 1:])
    return sums


def _rank(
    hits: NDArray[np.integer[Any]], everything: NDArray[np.integer[Any]]
) -> dict[str, Values]:
    """Compute AUROC and average precision from cumulative counts (B, L + 1) by descending score.

    All pairs of a level have one score. Average precision is the precision at the end of each
    level, weighted by the positives of the level (as in scikit-learn); the AUROC is the
    trapezoidal area under hits against false alarms, where all pairs of a level tie.
    """
    gained, alarms = np.diff(hits, axis=1), everything - hits
    positives, negatives = hits[:, -1].astype(np.float64), alarms[:, -1].astype(np.float64)
    precisions = hits[:, 1:] / np.maximum(everything[:, 1:], 1)
    # Twice the sum, over positives, of the negatives above each; a tie counts as half.
    above = np.einsum("ij,ij->i", gained, alarms[:, 1:] + alarms[:, :-1], dtype=np.float64)
    both = np.where(negatives > 0, positives, 0)  # average precision too needs both classes
    return {
        "auroc": _divide(2 * positives * negatives - above, 2 * positives * negatives),
        "auprc": _divide(np.einsum("ij,ij->i", gained, precisions), both),
    }


def none_if_nan(value: Values | float) -> float | None:
    """Return a metric as a plain float, or None if it is undefined."""
    return None if np.isnan(value) else float(value)


def _compute_ranking(
    name: str, scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> float | None:
    compute = RANKINGS[name]
    return float(compute(truth, scores)) if truth.any() and not truth.all() else None


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> Values:
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    quotient: Values = np.divide(above, below, out=np.full(below.shape, np.nan), where=below != 0)
    return quotient
