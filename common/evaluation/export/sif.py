"""Write networks as SIF, Cytoscape's simple format, with tables of node and edge attributes.

`net.sif` has a line `protein pp protein` for each interaction, and a line `protein` for each
protein without interactions. SIF cannot store attributes, so `net.nodes.tsv` and `net.edges.tsv`
list the attributes by Cytoscape's names of nodes and edges, ready for import as tables.
"""

from __future__ import annotations

import numpy as np

from common.evaluation.export.base import Format, Output, Proteins, Rows
from common.evaluation.export.graphml import count_degrees, describe, nodes_of

NODE_TABLE, EDGE_TABLE = "nodes.tsv", "edges.tsv"


class SifWriter:
    """Writes a SIF file, a table of node attributes and a table of edge attributes."""

    def __init__(self, output: Output, proteins: Proteins) -> None:
        self.proteins = proteins
        self.degrees = np.zeros(len(proteins.ids), np.int64)
        self._network = output.create()
        self._edges = output.create(output.companion(EDGE_TABLE))
        self._nodes = output.create(output.companion(NODE_TABLE))
        self._edges.write(b"name\tprobability\tcall\n")
        self._nodes.write(b"name\tlength\tdescription\tdegree\n")

    def write(self, rows: Rows) -> None:
        """Write the next interactions to the SIF file and to the table of edges."""
        count_degrees(self.degrees, rows)
        ids = self.proteins.ids
        for a, b, probability, call in zip(*(column.tolist() for column in rows), strict=True):
            self._network.write(f"{ids[a]}\tpp\t{ids[b]}\n".encode())
            edge = f"{ids[a]} (pp) {ids[b]}\t{probability!r}\t{call}\n"
            self._edges.write(edge.encode())

    def close(self) -> None:
        """Write the table of nodes and proteins without interactions, and close all files."""
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
