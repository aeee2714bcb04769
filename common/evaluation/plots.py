"""The plots of evaluation tasks: PNG files beside a run's CSVs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from common.evaluation.networks import FloatArray, Network
from common.plotting import WHOLE_NUMBERS, save_plot

if TYPE_CHECKING:
    from common.evaluation.tasks.topology import TopologyRow


def plot_topology(rows: Sequence[TopologyRow], title: str, path: Path) -> None:
    """Draw each topology metric against the node size, and the summary row's mean as a line."""
    *sizes, summary = rows
    metrics = list(vars(summary))[3:]
    figure = Figure(figsize=(15, 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(metrics)), metrics, strict=True):
        axes.plot([row.node_size for row in sizes], [getattr(row, name) for row in sizes], "o-")
        axes.axhline(getattr(summary, name), color="tab:gray", linestyle="--", label="mean")
        axes.set_title(name)
        axes.set_xlabel("node size")
        axes.xaxis.set_major_locator(WHOLE_NUMBERS())
        axes.grid(alpha=0.3)
        axes.legend()
    save_plot(figure, path)


def plot_degrees(predicted: Network, true: Network, species: str, path: Path) -> None:
    """Draw, log-log, the share of the true network's proteins that have at least each degree."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for network, label in ((true, "true"), (predicted.on(true.nodes), "predicted")):
        ordered = np.sort(network.degrees())
        if not ordered.any():
            label += " (no interactions)"
        share = 1.0 - np.arange(len(ordered)) / len(ordered)
        axes.step(ordered[ordered > 0], share[ordered > 0], label=label, where="pre")
        if ordered.any():
            axes.set_xscale("log")
            axes.set_yscale("log")
    axes.set_title(f"degree distribution, {species}")
    axes.set_xlabel("degree")
    axes.set_ylabel("share of proteins with at least this degree")
    axes.legend()
    save_plot(figure, path)


def plot_centralities(
    essential: FloatArray, others: FloatArray, overlap: float, species: str, path: Path
) -> None:
    """Draw the predicted centralities of essential (E,) and of non-essential (M,) proteins."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(0.0, float(max(essential.max(), others.max())) or 1.0, 31).tolist()
    axes.hist(essential, bins, alpha=0.6, density=True, label="essential")
    axes.hist(others, bins, alpha=0.6, density=True, label="non-essential")
    axes.set_title(f"{species}: overlap {overlap:.3f}")
    axes.set_xlabel("predicted network centrality")
    axes.set_ylabel("density")
    axes.legend()
    save_plot(figure, path)
