"""Undirected protein networks, stored as arrays, from which all network metrics are computed.

Each interaction is stored once and without a direction, so no metric can depend on the order or
the orientation in which pairs were listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from common.data.tables.ids import places_of

if TYPE_CHECKING:
    import networkx as nx

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Network:
    """An undirected protein network without parallel edges; a self-pair (homodimer) is an edge.

    Attributes:
        nodes: The protein ids, sorted and distinct, including proteins without edges.
        edges: (E, 2) int64 indices into `nodes`, smaller index first, rows sorted and distinct.
    """

    nodes: tuple[str, ...]
    edges: IntArray

    @classmethod
    def from_indices(cls, nodes: tuple[str, ...], pairs: NDArray[np.integer[Any]]) -> Network:
        """Build a network from pairs of indices into sorted nodes, (P, 2) in any order."""
        keys = pair_keys(pairs[:, 0], pairs[:, 1], len(nodes))
        if not (keys[1:] > keys[:-1]).all():
            keys = np.unique(keys)
        return cls(nodes, np.stack(np.divmod(keys, max(len(nodes), 1)), axis=1))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], nodes: Iterable[str] = ()) -> Network:
        """Build a network from pairs of protein ids; `nodes` adds proteins without pairs."""
        pairs = list(pairs)
        ends = [end for pair in pairs for end in pair]
        names = tuple(sorted({*nodes, *ends}))
        return cls.from_indices(names, places_of(ends, names).reshape(-1, 2))

    @classmethod
    def from_graph(cls, graph: nx.Graph) -> Network:
        """Build a network from a networkx graph whose nodes are protein ids."""
        return cls.from_pairs(graph.edges(), graph.nodes())

    @cached_property
    def index(self) -> dict[str, int]:
        """A mapping from each protein id to its index in `nodes`."""
        return {name: i for i, name in enumerate(self.nodes)}

    def without_self_pairs(self) -> Network:
        """Return this network without its self-pairs (edges from a protein to itself)."""
        return Network(self.nodes, self.edges[self.edges[:, 0] != self.edges[:, 1]])

    def on(self, nodes: Collection[str]) -> Network:
        """Return the network of exactly these proteins, with the edges between them."""
        names = tuple(sorted(set(nodes)))
        ends = places_of(self.nodes, names)[self.edges]
        return Network.from_indices(names, ends[(ends >= 0).all(axis=1)])

    def adjacency(self, dtype: type[np.generic] = np.float64) -> NDArray[Any]:
        """Build the dense adjacency matrix, (N, N) of 0 and 1, with self-pairs on the diagonal."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=dtype)
        matrix[self.edges[:, 0], self.edges[:, 1]] = 1
        matrix[self.edges[:, 1], self.edges[:, 0]] = 1
        return matrix

    def degrees(self) -> IntArray:
        """Compute the degree of each node, (N,) int64; a self-pair counts twice, as in networkx."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes)).astype(np.int64)

    def neighbours(self) -> dict[str, set[str]]:
        """Return each protein's neighbours; a protein with a self-pair is its own neighbour."""
        near: dict[str, set[str]] = {name: set() for name in self.nodes}
        for a, b in self.edges.tolist():
            near[self.nodes[a]].add(self.nodes[b])
            near[self.nodes[b]].add(self.nodes[a])
        return near

    def is_connected(self) -> bool:
        """Return whether a path joins every two proteins (True for a single protein)."""
        near = self.neighbours()
        reached, todo = set(self.nodes[:1]), list(self.nodes[:1])
        while todo:
            new = near[todo.pop()] - reached
            reached |= new
            todo.extend(new)
        return len(reached) == len(self.nodes)


def pair_keys(
    first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]], count: int
) -> IntArray:
    """Encode each undirected pair of indices below `count` as one integer.

    The integer is the smaller index × `count` + the larger index.
    """
    first, second = first.astype(np.int64), second.astype(np.int64)
    keys: IntArray = np.minimum(first, second) * count + np.maximum(first, second)
    return keys


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread, because more threads slow down work on many small matrices."""
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits
