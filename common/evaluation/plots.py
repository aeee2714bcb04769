"""Charts of the network tasks: topology metrics, node degrees and protein centralities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.charts import Chart, Plot, Reference, Series
from common.evaluation.networks import FloatArray, Network
from common.evaluation.subgraphs import TopologyRow


class _Look(NamedTuple):
    """The labels of a topology metric's plot, and the metric's best value."""

    title: str
    axis: str
    better: str
    perfect: float
    note: str


_SHAPE = "The MMD is 0 if the distributions of predicted and true subgraphs are equal."
_LOOKS = {
    "graph_sim": _Look(
        "Graph similarity", "similarity", "higher is better", 1.0,
        "The overlap of predicted and true interactions; read it with the relative density.",
    ),
    "relative_density": _Look(
        "Relative density", "density", "1 is best", 1.0,
        "The ratio of predicted to true interactions in the same node sets.",
    ),
    "deg_dist_mmd": _Look("Degrees", "MMD", "lower is better", 0.0, _SHAPE),
    "cc_mmd": _Look("Clustering", "MMD", "lower is better", 0.0, _SHAPE),
    "laplacian_eigen_mmd": _Look("Laplacian spectrum", "MMD", "lower is better", 0.0, _SHAPE),
}  # fmt: skip


def chart_topology(rows: Sequence[TopologyRow], data: str) -> Chart:
    """Plot each topology metric against the node-set size, without the final summary row."""
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
    """Plot the fraction of test proteins with at least each degree, on logarithmic axes."""
    series = []
    for network, label in ((true, "true"), (predicted.on(true.nodes), "predicted")):
        degrees, counts = np.unique(network.degrees(), return_counts=True)
        share = counts[::-1].cumsum()[::-1] / max(counts.sum(), 1)
        some = degrees > 0
        name = label if some.any() else f"{label} (no interactions)"
        series.append(Series(name, degrees[some].astype(np.float64), share[some], "steps"))
    note = "The closer the two lines are, the better."
    plot = Plot(
        "Degrees of all proteins", "degree", "fraction with at least this degree", series,
        note=note, log=True,
    )  # fmt: skip
    return Chart(f"degree distribution of {species}", [plot])


def chart_centralities(
    essential: FloatArray, others: FloatArray, overlap: float, species: str
) -> Chart:
    """Plot the distributions of the centralities of essential (E,) and other (M,) proteins."""
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
