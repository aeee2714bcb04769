"""The charts of the network tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.charts import Chart, Plot, Reference, Series
from common.evaluation.networks import FloatArray, Network

if TYPE_CHECKING:
    from common.evaluation.tasks.topology import TopologyRow


class _Look(NamedTuple):
    """How a topology metric is shown: its title, its axis, its direction, and its best value."""

    title: str
    axis: str
    better: str
    perfect: float
    note: str


_SHAPE = "0 where predicted and true subgraphs have the same distribution."
_LOOKS = {
    "graph_sim": _Look(
        "Graph similarity", "similarity", "higher is better", 1.0,
        "The share of interactions that both networks have; read it with the relative density.",
    ),
    "relative_density": _Look(
        "Relative density", "density", "1 is right", 1.0,
        "Predicted over true interactions in the same node sets.",
    ),
    "deg_dist_mmd": _Look("Degrees", "MMD", "lower is better", 0.0, _SHAPE),
    "cc_mmd": _Look("Clustering", "MMD", "lower is better", 0.0, _SHAPE),
    "laplacian_eigen_mmd": _Look("Laplacian spectrum", "MMD", "lower is better", 0.0, _SHAPE),
}  # fmt: skip


def chart_topology(rows: Sequence[TopologyRow], data: str) -> Chart:
    """Show each topology metric against the node size; the last row, the summary, is left out."""
    sizes = np.array([row.node_size for row in rows[:-1]], np.float64)
    panels = []
    for name, look in _LOOKS.items():
        values = np.array([getattr(row, name) for row in rows[:-1]], np.float64)
        panels.append(
            Plot(
                look.title,
                "proteins in the node set",
                look.axis,
                [Series("", sizes, values, "marked")],
                [Reference(f"perfect: {look.perfect:g}", look.perfect)],
                look.better,
                look.note,
                whole=True,
                limits=(0.0, 1.05) if name == "graph_sim" else (-0.02, None),
            )
        )
    return Chart(f"topology of {data} node sets", panels)


def chart_degrees(predicted: Network, true: Network, species: str) -> Chart:
    """Show, log-log, the share of the true network's proteins that have at least each degree."""
    series = []
    for network, label in ((true, "true"), (predicted.on(true.nodes), "predicted")):
        degrees, counts = np.unique(network.degrees(), return_counts=True)
        share = counts[::-1].cumsum()[::-1] / max(counts.sum(), 1)
        some = degrees > 0
        name = label if some.any() else f"{label} (no interactions)"
        series.append(Series(name, degrees[some].astype(np.float64), share[some], "steps"))
    note = "The nearer the two lines are, the better."
    plot = Plot(
        "Degrees of all proteins", "degree", "share with at least this degree", series,
        note=note, log=True,
    )  # fmt: skip
    return Chart(f"degree distribution of {species}", [plot])


def chart_centralities(
    essential: FloatArray, others: FloatArray, overlap: float, species: str
) -> Chart:
    """Show the predicted centralities of essential (E,) and of non-essential (M,) proteins."""
    borders = np.linspace(0.0, float(max(essential.max(), others.max())) or 1.0, 31)
    series = [
        Series(name, borders, np.histogram(values, borders, density=True)[0], "areas")
        for name, values in (("essential", essential), ("non-essential", others))
    ]
    plot = Plot(
        "Centrality of proteins", "centrality in the predicted network", "density", series,
        note=f"The distributions overlap by {overlap:.3f}; less is better.",
    )  # fmt: skip
    return Chart(f"essential proteins of {species}", [plot])
