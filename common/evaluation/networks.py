"""An undirected network of proteins in arrays: what every network figure is computed from.

`topology` and `functional` beside this module hold the figures themselves; this one holds what they
share: the `Network`, its restriction to a set of proteins, its adjacency, and the rule that keeps
the linear algebra of many small matrices on one thread. Interactions have no direction and stand
once, so a figure cannot depend on the order or the orientation in which pairs were listed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import networkx as nx

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Network:
    """An undirected network without parallel edges; a self-pair (homodimer) is an edge.

    Attributes:
        nodes: The protein ids, sorted and distinct; isolated proteins stand here too.
        edges: (E, 2) int64 indices into `nodes`, smaller one first, rows sorted and distinct.
    """

    nodes: tuple[str, ...]
    edges: IntArray

    @classmethod
    def from_indices(cls, nodes: tuple[str, ...], pairs: NDArray[np.integer[Any]]) -> Network:
        """Builds the network from (P, 2) indices into sorted nodes: any order and orientation."""
        ordered = np.sort(pairs.astype(np.int64).reshape(-1, 2), axis=1)
        count = max(len(nodes), 1)
        keys = np.unique(ordered[:, 0] * count + ordered[:, 1])
        return cls(nodes, np.stack([keys // count, keys % count], axis=1))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]], nodes: Iterable[str] = ()) -> Network:
        """Builds the network from pairs of ids; `nodes` adds proteins that no pair names."""
        pairs = list(pairs)
        names = tuple(sorted({*nodes, *(node for pair in pairs for node in pair)}))
        index = {name: i for i, name in enumerate(names)}
        ends = np.array([(index[a], index[b]) for a, b in pairs], dtype=np.int64)
        return cls.from_indices(names, ends)

    @classmethod
    def from_graph(cls, graph: nx.Graph) -> Network:
        """Builds the network from a networkx graph whose nodes are protein ids."""
        return cls.from_pairs(graph.edges(), graph.nodes())

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of every protein id in `nodes`."""
        return {name: i for i, name in enumerate(self.nodes)}

    def on(self, nodes: Collection[str]) -> Network:
        """This network on exactly these proteins: edges that leave them go, missing ones join."""
        names = tuple(sorted(set(nodes)))
        places = {name: i for i, name in enumerate(names)}
        target = np.array([places.get(name, -1) for name in self.nodes], dtype=np.int64)
        ends = target[self.edges]
        return Network.from_indices(names, ends[(ends >= 0).all(axis=1)])

    def adjacency(self, dtype: type[np.generic] = np.float64) -> NDArray[Any]:
        """The dense symmetric (N, N) adjacency of zeros and ones; self-pairs on the diagonal."""
        matrix = np.zeros((len(self.nodes), len(self.nodes)), dtype=dtype)
        matrix[self.edges[:, 0], self.edges[:, 1]] = 1
        matrix[self.edges[:, 1], self.edges[:, 0]] = 1
        return matrix

    def degrees(self) -> IntArray:
        """The degree of every node, (N,) int64; a self-pair counts twice, as in networkx."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes)).astype(np.int64)

    def neighbours(self) -> dict[str, set[str]]:
        """The neighbours of every protein; one with a self-pair is its own neighbour."""
        near: dict[str, set[str]] = {name: set() for name in self.nodes}
        for a, b in self.edges.tolist():
            near[self.nodes[a]].add(self.nodes[b])
            near[self.nodes[b]].add(self.nodes[a])
        return near


def one_blas_thread() -> AbstractContextManager[Any]:
    """Holds BLAS at one thread meanwhile: threads cost more than many small matrices do."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits
