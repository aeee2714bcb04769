"""Pictures from figures: PNG files beside a run's CSVs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.csv_log import TOPOLOGY_HEADER
from common.evaluation.networks import IntArray
from common.evaluation.tasks.essential_proteins import EssentialFigures
from common.evaluation.tasks.topology import TopologyRow
from common.plotting import WHOLE_NUMBERS, save_plot

TOPOLOGY_FIGURES = TOPOLOGY_HEADER[3:]


def plot_topology(rows: Sequence[TopologyRow], title: str, path: Path) -> None:
    """Draw each topology figure against the node size, with its mean over sizes as a line.

    Args:
        rows: One row per size, then the summary.
        title: Species and strategy.
        path: The PNG to write.
    """
    *sizes, summary = rows
    figure = Figure(figsize=(15, 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(TOPOLOGY_FIGURES)), TOPOLOGY_FIGURES, strict=True):
        axes.plot([row.node_size for row in sizes], [getattr(row, name) for row in sizes], "o-")
        axes.axhline(getattr(summary, name), color="tab:gray", linestyle="--", label="mean")
        axes.set_title(name)
        axes.set_xlabel("node size")
        axes.xaxis.set_major_locator(WHOLE_NUMBERS())
        axes.grid(alpha=0.3)
        axes.legend()
    save_plot(figure, path)


def plot_degrees(predicted: IntArray, true: IntArray, species: str, path: Path) -> None:
    """Draw which share of proteins has at least a degree, predicted against true, log-log.

    Args:
        predicted: (N,) degrees in the predicted network.
        true: (N,) degrees in the true one.
        species: Whose network it is.
        path: The PNG to write.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for degrees, label in ((true, "true"), (predicted, "predicted")):
        if not degrees.any():
            label += " (no interactions)"
        ordered = np.sort(degrees)
        share = 1.0 - np.arange(len(ordered)) / len(ordered)
        axes.step(ordered[ordered > 0], share[ordered > 0], label=label, where="pre")
    if predicted.any() or true.any():
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_title(f"degree distribution, {species}")
    axes.set_xlabel("degree")
    axes.set_ylabel("share of proteins with at least it")
    axes.legend()
    save_plot(figure, path)


def plot_centralities(figures: EssentialFigures, species: str, path: Path) -> None:
    """Draw the predicted centralities of essential and of other proteins.

    Args:
        figures: Holds both groups' centralities.
        species: Whose proteins they are.
        path: The PNG to write.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    highest = max(figures.essential.max(), figures.non_essential.max())
    bins = np.linspace(0.0, float(highest) or 1.0, 31)
    axes.hist(figures.essential, bins.tolist(), alpha=0.6, density=True, label="essential")
    axes.hist(figures.non_essential, bins.tolist(), alpha=0.6, density=True, label="non-essential")
    axes.set_title(f"{species}: overlap {figures.distribution_overlap:.3f}")
    axes.set_xlabel("predicted network centrality")
    axes.set_ylabel("density")
    axes.legend()
    save_plot(figure, path)
