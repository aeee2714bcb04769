"""The report's section that draws a small part of the true and of the predicted network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from matplotlib.collections import LineCollection

from common.charts import Chart, Panel
from common.csv_log import Cell, Table
from common.data.splitting import draw_node_sets, neighbours_of
from common.evaluation.networks import FloatArray, IntArray, Network
from common.evaluation.report.blocks import Drawings, Judged, Section
from common.plot_style import COLOURS, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 30  # proteins; a larger drawing would be illegible
_STREAM = 11  # makes the sample independent of other samples with the same seed
# Kinds of edges, with styles that differ in width and dashes as well as in colour.
STYLES: Mapping[str, tuple[str, float, object]] = {
    "agreeing": (COLOURS[0], 2.2, "-"),
    "missed": (MUTED, 1.2, (0, (5, 3))),
    "invented": (COLOURS[1], 1.2, (0, (1, 1.5))),
}


@dataclass(frozen=True, eq=False)
class NetworkPanel(Panel):
    """A panel that draws a network with several kinds of edges.

    Attributes:
        title: The title of the panel.
        note: The caption, which explains the panel.
        names: The protein ids.
        places: (N, 2) the coordinates of the proteins.
        edges: (E, 2) indices into `names`, by the kind of edge.
    """

    title: str
    note: str
    names: Sequence[str]
    places: FloatArray
    edges: Mapping[str, IntArray]

    def draw(self, axes: Axes) -> None:
        """Draw the edges in the style of their kind, and the proteins on top of the edges."""
        axes.axis("off")
        for order, (kind, edges) in enumerate(self.edges.items()):
            colour, width, dashes = STYLES[kind]
            lines = [self.places[edge] for edge in edges]
            label = f"{kind} ({len(edges)})"
            axes.add_collection(
                LineCollection(lines, colors=colour, linewidths=width, linestyles=[dashes],
                               label=label, zorder=2 - order)
            )  # fmt: skip
        axes.scatter(self.places[:, 0], self.places[:, 1], s=18, color=INK, zorder=3)
        axes.margins(0.05)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(self.edges))

    def describe(self) -> str:
        """Return a text alternative: the numbers of proteins and of edges of each kind."""
        counts = ", ".join(f"{len(edges)} {kind}" for kind, edges in self.edges.items())
        return f"{self.title}: a network of {len(self.names)} proteins; edges: {counts}."

    def tabulate(self) -> Table:
        """Return a table with a row for each edge: both proteins and the kind of edge."""
        rows: list[dict[str, Cell]] = [
            {"protein_a": self.names[a], "protein_b": self.names[b], "kind": kind}
            for kind, edges in self.edges.items()
            for a, b in edges.tolist()
        ]
        return Table(("protein_a", "protein_b", "kind"), rows)


def show_subgraph(judged: Judged) -> Iterator[Section]:
    """Yield the section that draws a random walk's proteins in the true and predicted networks."""
    networks = judged.side.whole_networks()
    true = networks[0].network.without_self_pairs() if networks else None
    if true is None or not len(true.edges):
        return
    scored = judged.scored
    predicted = scored.predictions.edges(scored.threshold.value).without_self_pairs()
    chart = chart_subgraph(true, predicted, judged.run.config.run.seed)
    intro = (
        "The proteins were chosen by a random walk on the true network of"
        f" {networks[0].species} with a fixed seed. Self-pairs are not drawn. Random walks prefer"
        " dense regions, so these proteins do not represent the whole network."
    )
    yield Section("A part of the network", [Drawings({"subgraph": chart})], intro)


def chart_subgraph(true: Network, predicted: Network, seed: int) -> Chart:
    """Create a chart of the same sampled proteins in the true and in the predicted network.

    Args:
        true: The true network, without self-pairs and with at least one interaction.
        predicted: The predicted network, without self-pairs.
        seed: The seed of the sample.
    """
    names = _sample(true, seed)
    real, guessed = (_edges(network.on(names)) for network in (true, predicted))
    places = _lay_out(real, len(names))
    drawn = {
        "agreeing": np.array(sorted(real & guessed), np.int64).reshape(-1, 2),
        "missed": np.array(sorted(real - guessed), np.int64).reshape(-1, 2),
        "invented": np.array(sorted(guessed - real), np.int64).reshape(-1, 2),
    }
    solid = {"agreeing": drawn["agreeing"], "missed": drawn["missed"]}
    panels = [
        NetworkPanel("True network", "Predicted and missed interactions.", names, places, solid),
        NetworkPanel("Predicted network", "True and false predictions.", names, places,
                     {"agreeing": drawn["agreeing"], "invented": drawn["invented"]}),
    ]  # fmt: skip
    return Chart("a part of the network", panels)


def _sample(true: Network, seed: int) -> tuple[str, ...]:
    """Return the sorted names of the proteins that a random walk on the true network visits."""
    linked = np.unique(true.edges)
    neighbours = neighbours_of(true.edges, np.arange(len(true.nodes)))
    rng = np.random.default_rng((seed, 0, _STREAM))
    size = min(SIZE, len(linked))
    (drawn,) = draw_node_sets(neighbours, [size], 1, "RANDOM_WALK", rng)[size]
    return tuple(sorted(true.nodes[node] for node in drawn))


def _edges(network: Network) -> set[tuple[int, int]]:
    return {(a, b) for a, b in network.edges.tolist()}


def _lay_out(edges: set[tuple[int, int]], count: int) -> FloatArray:
    """Compute coordinates (N, 2) that place linked proteins close together, deterministically."""
    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(sorted(edges))
    # The Kamada-Kawai layout spreads proteins better, but needs a connected network.
    if nx.is_connected(graph):
        places = nx.kamada_kawai_layout(graph)
    else:
        places = nx.spring_layout(graph, seed=0, iterations=200, k=1.6 / np.sqrt(count))
    return np.array([places[node] for node in range(count)]).round(4)
