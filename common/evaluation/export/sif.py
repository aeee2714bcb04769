"""SIF, Cytoscape's simple format, with tables of node and edge attributes beside it.

`net.sif` has lines `protein pp protein`, and a line of its own for a protein without interactions.
The format has no attributes: `net.nodes.tsv` and `net.edges.tsv` list them under the names that
Cytoscape gives to nodes and edges, so that they can be imported as tables.
"""

from __future__ import annotations

import numpy as np

from common.evaluation.export.base import Format, Output, Proteins, Rows
from common.evaluation.export.graphml import count_degrees, describe, nodes_of

NODE_TABLE, EDGE_TABLE = "nodes.tsv", "edges.tsv"


class SifWriter:
    """Writes the network and both tables."""

    def __init__(self, output: Output, proteins: Proteins) -> None:
        self.proteins = proteins
        self.degrees = np.zeros(len(proteins.ids), np.int64)
        self._network = output.create()
        self._edges = output.create(output.companion(EDGE_TABLE))
        self._nodes = output.create(output.companion(NODE_TABLE))
        self._edges.write(b"name\tprobability\tcall\n")
        self._nodes.write(b"name\tlength\tdescription\tdegree\n")

    def write(self, rows: Rows) -> None:
        """Add interactions."""
        count_degrees(self.degrees, rows)
        ids = self.proteins.ids
        for a, b, probability, call in zip(*(column.tolist() for column in rows), strict=True):
            self._network.write(f"{ids[a]}\tpp\t{ids[b]}\n".encode())
            edge = f"{ids[a]} (pp) {ids[b]}\t{probability!r}\t{call}\n"
            self._edges.write(edge.encode())

    def close(self) -> None:
        """Write the nodes."""
        for node in nodes_of(self.proteins, self.degrees):
            name = self.proteins.ids[node]
            cells = map(str, (name, *describe(self.proteins, self.degrees, node)))
            self._nodes.write(("\t".join(cells) + "\n").encode())
            if not self.degrees[node]:
                self._network.write(f"{name}\n".encode())
        for file in (self._network, self._edges, self._nodes):
            file.close()


SIF = Format(
    SifWriter,
    "Cytoscape (import the tables .nodes.tsv and .edges.tsv for attributes)",
    only_called=True,
)
