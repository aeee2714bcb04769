"""Draw a small network as a PNG file, without the proteins that have no partner."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import networkx as nx
import numpy as np
from matplotlib.figure import Figure

from common.evaluation.export.base import Proteins, Rows
from common.evaluation.export.graphml import count_degrees
from common.plot_style import COLOURS, MUTED, STYLE
from common.plotting import save_plot
from common.run import LOGGER, format_event

MOST_NODES, MOST_NAMES = 300, 60


class Picture:
    """Collects the pairs of a network, and draws the network if it is small enough.

    Args:
        path: The PNG file.
        proteins: The proteins of the network.
        only_called: Whether to draw only predicted interactions, and not all pairs.
    """

    def __init__(self, path: Path, proteins: Proteins, only_called: bool) -> None:
        self.path, self.proteins, self.only_called = path, proteins, only_called
        self.partners = np.zeros(len(proteins.ids), np.int64)
        self.edges: list[tuple[int, int, float]] = []

    def write(self, rows: Rows) -> None:
        """Collect the next pairs for the drawing."""
        rows = rows.select(rows.calls == 1) if self.only_called else rows
        count_degrees(self.partners, rows.select(rows.first != rows.second))
        if not self._too_large():
            columns = (rows.first, rows.second, rows.probabilities)
            self.edges += zip(*(column.tolist() for column in columns), strict=True)

    def close(self) -> None:
        """Draw the network, or log a warning if the network is too large for a legible drawing."""
        nodes = np.flatnonzero(self.partners)
        if self._too_large():
            fields = {"proteins": len(nodes), "at_most": MOST_NODES}
            LOGGER.warning(format_event("network_too_large_to_draw", **fields))
            return
        graph = nx.Graph()
        graph.add_weighted_edges_from(self.edges)
        graph = graph.subgraph(nodes.tolist())
        with matplotlib.rc_context(STYLE):
            save_plot(_draw(graph, self.proteins), self.path)

    def _too_large(self) -> bool:
        return bool(np.count_nonzero(self.partners) > MOST_NODES)


def _draw(graph: nx.Graph, proteins: Proteins) -> Figure:
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    title, left = f"{len(graph)} proteins, {graph.number_of_edges()} pairs", len(proteins.ids)
    if left > len(graph):
        title += f"\nnot drawn: {left - len(graph)} proteins without a partner"
    axes.set_title(title)
    if len(graph):
        places = nx.spring_layout(graph, weight="weight", seed=0)
        widths = [0.3 + 1.7 * weight for *_, weight in graph.edges(data="weight")]
        sizes = [40 + 12 * degree for _, degree in graph.degree()]
        nx.draw_networkx_edges(graph, places, ax=axes, width=widths, edge_color=MUTED, alpha=0.5)
        nx.draw_networkx_nodes(graph, places, ax=axes, node_size=sizes, node_color=COLOURS[0])
        if len(graph) <= MOST_NAMES:
            names = {node: proteins.ids[node] for node in graph}
            nx.draw_networkx_labels(graph, places, names, font_size=7, ax=axes)
    return figure
