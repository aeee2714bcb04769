"""The chart of a training stage: losses, validation metrics and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from common.charts import Chart, Plot, Series
from common.csv_log import EpochRow


def chart_training(rows: Sequence[EpochRow], metrics: Sequence[str]) -> Chart:
    """Create the chart of a stage's losses, validation metrics and learning rate by epoch.

    Args:
        rows: The epochs so far.
        metrics: The validation metrics to show; an undefined value leaves a gap.
    """
    epochs = np.array([row.epoch for row in rows], np.float64)

    def series(name: str, values: Sequence[float | None]) -> Series:
        return Series(name, epochs, np.array(values, np.float64), "marked")

    losses = [
        series("training", [row.train_loss for row in rows]),
        series("validation", [row.val_loss for row in rows]),
    ]
    found = [series(name, [row.val_metrics.get(name) for row in rows]) for name in metrics]
    rates = [series("", [row.learning_rate for row in rows])]
    panel = partial(Plot, x_label="epoch", whole=True)
    panels = [panel("Loss", y_label="loss", series=losses, better="lower is better")]
    if found:
        panels.append(
            panel("Validation", y_label="metric", series=found, better="higher is better")
        )
    panels.append(panel("Learning rate", y_label="learning rate", series=rates))
    return Chart("training", panels)
