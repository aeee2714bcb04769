"""Charts of labelled pairs with scores: ROC, precision–recall, calibration and distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from common.charts import Chart, Plot, Reference, Series, thin
from common.evaluation.intervals import ScoredPairs
from common.inference.pair_metrics import Metrics

BINS, CALIBRATION_BINS = 40, 15
DIGITS = 5  # decimals of the curves' points


def chart_pairs(scored: ScoredPairs, metrics: Metrics, data: str) -> dict[str, Chart]:
    """Build the charts of labelled pairs with scores, by the name of each chart's PNG file."""
    charts = {
        "ranking.png": chart_ranking(scored, metrics, data),
        "calibration.png": chart_calibration(scored, data),
        "scores.png": chart_scores(scored, data),
    }
    return {name: chart for name, chart in charts.items() if chart is not None}


def chart_ranking(scored: ScoredPairs, metrics: Metrics, data: str) -> Chart | None:
    """Plot the ROC and precision–recall curves; return None if all pairs have the same label.

    Points that the plots do not need are left out; each of these points lies within 0.0005 of the
    drawn curve.

    Args:
        scored: The labelled pairs with their scores.
        metrics: The metrics of the pairs, for the legends.
        data: The name of the pairs, for the title.
    """
    if len(np.unique(scored.labels)) < 2:
        return None
    false, true, _ = roc_curve(scored.labels, scored.scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(scored.labels, scored.scores)
    # The last point of scikit-learn (precision 1, recall 0) belongs to no threshold and is dropped.
    # The curve is drawn in steps, as in the definition of average precision, because straight lines
    # between the points would show precisions that no threshold reaches.
    precision, recall = np.repeat(precision[-2::-1], 2), np.repeat(recall[::-1], 2)[1:-1]
    share = float(scored.labels.mean())
    roc = Plot(
        "ROC curve", "false positive rate", "true positive rate",
        [_curve(false, true, metrics.get("auroc"), "AUROC")],
        [Reference("chance")], "higher is better", limits=(-0.02, 1.02),
    )  # fmt: skip
    recalled = Plot(
        "Precision and recall", "recall", "precision",
        [_curve(recall, precision, metrics.get("auprc"), "AUPRC")],
        [Reference(f"chance: the prevalence, {share:.3f}", share)], "higher is better",
        limits=(-0.02, 1.02),
    )  # fmt: skip
    return Chart(f"ranking of {len(scored)} pairs of {data}", [roc, recalled])


def _curve(
    x: NDArray[np.float64], y: NDArray[np.float64], value: float | None, measure: str
) -> Series:
    kept = thin(x, y)
    return Series("", x[kept].round(DIGITS), y[kept].round(DIGITS), value=value, measure=measure)


def chart_calibration(scored: ScoredPairs, data: str) -> Chart | None:
    """Plot the calibration of the scores; return None if the scores are not probabilities."""
    scores, labels = scored.scores, scored.labels
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return None
    # All bins have the same number of pairs (give or take a pair), and no bin is empty.
    parts = np.array_split(np.argsort(scores, kind="stable"), min(CALIBRATION_BINS, len(scores)))
    means = np.array([scores[part].mean() for part in parts])
    shares = np.array([labels[part].mean() for part in parts])
    plot = Plot(
        "Calibration", "mean score of the bin", "fraction that interacts",
        [Series("scores", means, shares, "marked")], [Reference("perfect")],
        note=f"Unchanged scores of pairs of which {labels.mean():.1%} interact, in"
        f" {len(parts)} bins with equal numbers of pairs.", limits=(-0.02, 1.02),
    )  # fmt: skip
    return Chart(f"calibration on {len(scored)} pairs of {data}", [plot])


def chart_scores(scored: ScoredPairs, data: str) -> Chart | None:
    """Plot the score distributions of interacting and of other pairs, with the threshold."""
    usual = scored.scores[np.abs(scored.scores) < 1e300]  # infinite scores cannot be drawn
    if not len(usual):
        return None
    low, high = float(usual.min()), float(usual.max())
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-9))
    borders = np.linspace(low, high, BINS + 1)
    series = []
    for label, name in ((1, "interacting"), (0, "not interacting")):
        chosen = np.clip(scored.scores[scored.labels == label], low, high)
        counts = np.histogram(chosen, borders)[0] / max(len(chosen), 1)
        series.append(Series(name, borders, counts, "areas"))
    threshold = Reference(f"threshold: {scored.threshold:.3g}", x=scored.threshold)
    plot = Plot(
        "Scores by class", "score", "fraction of the class", series, [threshold],
        note="The less the two distributions overlap, the better; pairs to the right of the"
        " threshold are predicted to interact.",
    )  # fmt: skip
    return Chart(f"scores of {len(scored)} pairs of {data}", [plot])
