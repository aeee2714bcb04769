"""Write networks as GraphML, an XML format for graphs (http://graphml.graphdrawing.org).

Nodes have a length, a description and a degree; edges have a probability and a call. Nodes must
precede edges, but degrees are only known at the end, so edges are first written to a scratch file.
"""

from __future__ import annotations

import shutil
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from common.evaluation.export.base import Format, Output, Proteins, Rows

_NODE_KEYS = {"length": "int", "description": "string", "degree": "int"}
_EDGE_KEYS = {"probability": "double", "call": "int"}
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
"""


class GraphMLWriter:
    """Writes a network as an undirected GraphML graph, with protein ids as node ids."""

    def __init__(self, output: Output, proteins: Proteins) -> None:
        self.proteins = proteins
        self.degrees = np.zeros(len(proteins.ids), np.int64)
        self._names = [quoteattr(name) for name in proteins.ids]
        self._file = output.create()
        self._edges = output.create_scratch()

    def write(self, rows: Rows) -> None:
        """Write the next pairs as edges to the scratch file, and update the degrees."""
        count_degrees(self.degrees, rows)
        for a, b, probability, call in zip(*(column.tolist() for column in rows), strict=True):
            line = (
                f"<edge source={self._names[a]} target={self._names[b]}>"
                f'<data key="probability">{probability!r}</data><data key="call">{call}</data>'
                "</edge>\n"
            )
            self._edges.write(line.encode())

    def close(self) -> None:
        """Write the nodes, append the edges from the scratch file, and close the output."""
        keys = [("node", *key) for key in _NODE_KEYS.items()]
        keys += [("edge", *key) for key in _EDGE_KEYS.items()]
        self._put(_HEAD)
        for kind, name, of in keys:
            self._put(f'<key id="{name}" for="{kind}" attr.name="{name}" attr.type="{of}"/>\n')
        self._put('<graph edgedefault="undirected">\n')
        for node in nodes_of(self.proteins, self.degrees):
            self._put(self._node(node))
        self._edges.seek(0)
        shutil.copyfileobj(self._edges, self._file)
        self._put("</graph>\n</graphml>\n")
        self._edges.close()
        self._file.close()

    def _put(self, text: str) -> None:
        self._file.write(text.encode())

    def _node(self, node: int) -> str:
        values = describe(self.proteins, self.degrees, node)
        data = "".join(
            f'<data key="{key}">{escape(str(value))}</data>'
            for key, value in zip(_NODE_KEYS, values, strict=True)
        )
        return f"<node id={self._names[node]}>{data}</node>\n"


def count_degrees(degrees: np.ndarray[tuple[int], np.dtype[np.int64]], rows: Rows) -> None:
    """Add pairs to the degrees of their proteins, in place; a self-pair counts twice."""
    for side in (rows.first, rows.second):
        degrees += np.bincount(side, minlength=len(degrees))


def nodes_of(proteins: Proteins, degrees: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Return the indices of the network's nodes: proteins that have a pair or are always listed."""
    chosen = degrees > 0
    chosen[proteins.listed] = True
    return np.flatnonzero(chosen).tolist()


def describe(
    proteins: Proteins, degrees: np.ndarray[tuple[int], np.dtype[np.int64]], node: int
) -> tuple[int, str, int]:
    """Return a protein's length, description (printable characters only) and degree."""
    text = proteins.descriptions.get(proteins.ids[node], "")
    shown = "".join(c if c.isprintable() else " " for c in text)
    return int(proteins.lengths[node]), shown, int(degrees[node])


GRAPHML = Format(GraphMLWriter, "Cytoscape, Gephi, igraph or networkx.read_graphml", True)
