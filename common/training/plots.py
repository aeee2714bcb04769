"""Plot the curves of a training stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.csv_log import EpochRow
from common.plotting import WHOLE_NUMBERS, save_plot


def plot_training(rows: Sequence[EpochRow], metrics: Sequence[str], title: str, path: Path) -> None:
    """Draw a stage's loss, validation metrics and learning rate over its epochs.

    Args:
        rows: The epochs so far.
        metrics: Which validation metrics to draw; an undefined value leaves a gap.
        title: The model and what it was trained on.
        path: The PNG to write.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    loss, quality, lr = figure.subplots(1, 3)
    epochs = [row.epoch for row in rows]
    loss.plot(epochs, [row.train_loss for row in rows], marker=".", label="train")
    loss.plot(epochs, [row.val_loss for row in rows], marker=".", label="validation")
    _finish(loss, "loss", legend=True)
    for name in metrics:
        quality.plot(epochs, _values(rows, name), marker=".", label=name)
    _finish(quality, "validation", legend=bool(metrics))
    lr.plot(epochs, [row.learning_rate for row in rows], marker=".", color="tab:gray")
    _finish(lr, "learning rate", legend=False)
    save_plot(figure, path)


def _values(rows: Sequence[EpochRow], name: str) -> list[float]:
    values = [row.val_metrics.get(name) for row in rows]
    return [float("nan") if value is None else value for value in values]


def _finish(axes: Axes, title: str, legend: bool) -> None:
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(WHOLE_NUMBERS())
    axes.grid(alpha=0.3)
    if legend:
        axes.legend()
