"""Does the predicted network look like the true one? The topology task of PRING.

The task compares the two networks on sampled node sets of several sizes. Per size it gives the mean
graph similarity, the mean relative density, and three maximum mean discrepancies (MMD) between the
two populations of subgraphs: of their degrees, their clustering coefficients and their Laplacian
spectra. The metrics are those of PRING's `topology_task/eval.py` (github.com/SophieSarceau/PRING),
whose MMD descends from GRAN and GraphRNN (You et al., 2018). Here a node size is a few batches of
dense adjacencies (S, n, n), one batched eigenvalue problem each, and one kernel matrix per MMD.

A self-pair counts as the benchmark counts it: once as an edge, twice in the degree, not at all in
the clustering, once in the degree that normalises the Laplacian.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from common.config import Config
from common.errors import UserError
from common.evaluation.networks import FloatArray, IntArray, Network, one_blas_thread
from common.evaluation.plots import plot_degrees, plot_topology
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import PairSet, Plot, Table, Task, TaskResult

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet

NodeSets = Mapping[int, Sequence[Collection[str]]]
Adjacencies = NDArray[np.float32]

CLUSTERING_EDGES = np.linspace(0.0, 1.0, 101)
SPECTRUM_EDGES = np.linspace(-1e-5, 2.0, 201)  # the many eigenvalues 0 and 1 lie inside bins
EDGE_SHARE = 0.5  # what an eigenvalue 2, on the histogram's edge, counts
EDGE_TOLERANCE = 1e-9  # rounding errs by 1e-14; the next eigenvalue is 1e-8 away at 800 nodes
BATCH_ELEMENTS = 2_000_000  # of one (S, n, n) batch: 16 MB in float64, whatever the node sets


@dataclass(frozen=True)
class TopologyRow:
    """One row of `topology.csv`: the metrics of a node size, or their mean over the sizes.

    `graph_count` is the number of node sets behind the row. Similarity and density are means over
    them; an MMD is the squared discrepancy, 0 where the two populations agree and at most 2.
    """

    scope: Literal["node_size", "summary"]
    node_size: int | None
    graph_count: int
    graph_sim: float
    relative_density: float
    deg_dist_mmd: float
    cc_mmd: float
    laplacian_eigen_mmd: float


HEADER = tuple(column.name for column in fields(TopologyRow))
METRICS = HEADER[3:]


class Topology(Task):
    """The metrics of every species and strategy: `topology.csv` of the first, and further files."""

    name = "topology"

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        super().__init__(sets, config)
        asked = self.settings.strategies
        strategies = () if asked == "all" else asked
        self.samples = [
            (test_set, strategy, node_sets)
            for test_set in sets
            for strategy, node_sets in test_set.benchmark.node_sets(strategies).items()
        ]
        for test_set, _, node_sets in self.samples:
            known_members(node_sets, test_set.network)

    def asks(self) -> list[PairSet]:
        """All pairs of each species' test proteins."""
        return [test_set.network_pairs for test_set in self.sets]

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the networks on the node sets of each species and strategy."""
        predicted = predictions.edges(threshold)
        tables: dict[str, Table] = {}
        plots: dict[str, Plot] = {
            "degrees.png": partial(plot_degrees, predicted, self.own.network, self.own.species)
        }
        notes, means = [], []
        for test_set, strategy, node_sets in self.samples:
            species, true = test_set.species, test_set.network
            rows = topology(predicted, true, node_sets)
            name = f"topology.{species}.{strategy}" if tables else "topology"
            tables[f"{name}.csv"] = Table(HEADER, [vars(row) for row in rows])
            plots[f"{name}.png"] = partial(plot_topology, rows, f"{species} {strategy}")
            notes += describe_node_sets(node_sets, true)
            means.append(
                {"species": species, "strategy": strategy, **vars(rows[-1]), "node_size": "mean"}
            )
        summary = Table(("species", "strategy", *HEADER[1:]), means)
        return TaskResult(tables=tables, plots=plots, notes=notes, summary=[summary])


def topology(predicted: Network, true: Network, node_sets: NodeSets) -> list[TopologyRow]:
    """Compares two networks on sampled node sets.

    The true network decides which proteins exist: predicted pairs with others do not count, and
    neither do members of a node set that it lacks. A node set without any member that it knows is
    left out; `describe_node_sets` says how many.

    Args:
        predicted: The predicted network; proteins it lacks have no predicted interaction.
        true: The true network.
        node_sets: Node sets by their size; a protein named twice in one set counts once.

    Returns:
        One row per node size in rising order, then the row of their means.

    Raises:
        UserError: No node set has a member in the true network.
    """
    predicted, members = predicted.on(true.nodes), known_members(node_sets, true)
    with one_blas_thread():
        rows = [_size_row(size, members[size], predicted, true) for size in members]
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in METRICS}
    count = sum(row.graph_count for row in rows)
    return [*rows, TopologyRow("summary", None, count, **means)]


def describe_node_sets(node_sets: NodeSets, true: Network) -> list[str]:
    """Note, for each node size, which members of its node sets are not in the test graph."""
    notes = []
    for size in sorted(node_sets):
        distinct = [set(names) for names in node_sets[size]]
        known = [sum(name in true.index for name in names) for names in distinct]
        unknown = sum(map(len, distinct)) - sum(known)
        if unknown:
            notes.append(
                f"node size {size}: {unknown} members of node sets are not in the test graph and "
                f"ignored, which leaves out {known.count(0)} of {len(known)} node sets"
            )
    return notes


def known_members(node_sets: NodeSets, true: Network) -> dict[int, list[IntArray]]:
    """The sorted node indices of every node set that has a known member, by rising size.

    Raises:
        UserError: There is no such node set.
    """
    members = {}
    for size in sorted(node_sets):
        known = (
            [true.index[name] for name in {*names} & true.index.keys()] for names in node_sets[size]
        )
        found = [np.array(sorted(places), dtype=np.int64) for places in known if places]
        if found:
            members[size] = found
    if not members:
        raise UserError(
            "no sampled node set has a protein of the test graph: take node sets and graph of the "
            "same species and split"
        )
    return members


def _size_row(size: int, members: list[IntArray], predicted: Network, true: Network) -> TopologyRow:
    width = max(map(len, members)) + 2  # degrees: n - 1 others and a self-pair, at most n + 1
    means = {"graph_sim": graph_similarity, "relative_density": relative_density}
    histograms: dict[str, Callable[[Adjacencies], FloatArray]] = {
        "deg_dist_mmd": partial(degree_histograms, width=width),
        "cc_mmd": lambda adjacency: _binned(clustering_coefficients(adjacency), CLUSTERING_EDGES),
        "laplacian_eigen_mmd": spectrum_histograms,
    }
    found: dict[str, list[FloatArray]] = defaultdict(list)
    for pair in _adjacency_batches(members, predicted, true):
        for name, compare in means.items():
            found[name].append(compare(*pair))
        for name, count in histograms.items():
            found[name].append(np.stack([count(adjacency) for adjacency in pair]))
    metrics = {name: float(np.concatenate(found[name]).mean()) for name in means}
    metrics |= {name: mmd(*np.concatenate(found[name], axis=1)) for name in histograms}
    return TopologyRow("node_size", size, len(members), **metrics)


def _adjacency_batches(
    members: list[IntArray], predicted: Network, true: Network
) -> Iterator[tuple[Adjacencies, Adjacencies]]:
    """Yields predicted and true adjacencies (S, n, n) of node sets of one length, few at a time."""
    guess, truth = predicted.adjacency(np.uint8), true.adjacency(np.uint8)
    by_length: dict[int, list[IntArray]] = defaultdict(list)
    for nodes in members:
        by_length[len(nodes)].append(nodes)
    for length, group in by_length.items():
        step = max(1, BATCH_ELEMENTS // length**2)
        for start in range(0, len(group), step):
            nodes = np.stack(group[start : start + step])
            rows, columns = nodes[:, :, None], nodes[:, None, :]
            yield guess[rows, columns].astype(np.float32), truth[rows, columns].astype(np.float32)


def graph_similarity(predicted: Adjacencies, true: Adjacencies) -> FloatArray:
    """The share of adjacency entries in common: 1 - Σ|Â - A| / (ΣÂ + ΣA), (S,) in [0, 1].

    A pair of proteins has two entries, a self-pair one. Two empty subgraphs are equal: 1.
    """
    difference = np.abs(predicted - true).sum(axis=(1, 2), dtype=np.float64)
    total = predicted.sum(axis=(1, 2), dtype=np.float64) + true.sum(axis=(1, 2), dtype=np.float64)
    share: FloatArray = np.divide(difference, total, out=np.zeros_like(total), where=total > 0)
    return 1 - share


def relative_density(predicted: Adjacencies, true: Adjacencies) -> FloatArray:
    """Predicted over true number of edges, (S,); 1 is right, self-pairs are edges.

    As in the benchmark, an empty true subgraph gives 1 if the predicted one is empty as well and
    infinity if not.
    """
    guessed, actual = _edge_counts(predicted), _edge_counts(true)
    empty = np.where(guessed > 0, np.inf, 1.0)
    return np.divide(guessed, actual, out=empty, where=actual > 0)


def _edge_counts(adjacency: Adjacencies) -> FloatArray:
    loops = np.trace(adjacency, axis1=1, axis2=2, dtype=np.float64)
    counts: FloatArray = (adjacency.sum(axis=(1, 2), dtype=np.float64) + loops) / 2
    return counts


def degree_histograms(adjacency: Adjacencies, width: int) -> FloatArray:
    """Counts the nodes by degree, (S, width); a self-pair counts twice."""
    degrees = adjacency.sum(axis=2) + np.diagonal(adjacency, axis1=1, axis2=2)
    return _counted(degrees.astype(np.int64), width)


def clustering_coefficients(adjacency: Adjacencies) -> FloatArray:
    """Triangles through a node over pairs of its neighbours, 2T / (d(d - 1)), (S, n) in [0, 1].

    Self-pairs are ignored; nodes with fewer than two neighbours have 0.
    """
    plain = adjacency * (1 - np.eye(adjacency.shape[1], dtype=np.float32))
    twice_triangles = (np.matmul(plain, plain) * plain).sum(axis=2, dtype=np.float64)
    degrees = plain.sum(axis=2, dtype=np.float64)
    pairs = degrees * (degrees - 1)
    share: FloatArray = np.divide(twice_triangles, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    return share


def laplacian_eigenvalues(adjacency: Adjacencies) -> FloatArray:
    """Eigenvalues of the normalised Laplacian D^-1/2 (D - A) D^-1/2, (S, n), rising.

    They lie in [0, 2] but for rounding. An isolated node has the eigenvalue 0; every part that is
    bipartite has one eigenvalue 2.
    """
    degrees = adjacency.sum(axis=2, dtype=np.float64)
    linked = degrees > 0
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros_like(degrees), where=linked)
    laplacian = -adjacency * (scale[:, :, None] * scale[:, None, :])
    diagonal = np.arange(adjacency.shape[1])
    laplacian[:, diagonal, diagonal] += linked
    return np.linalg.eigvalsh(laplacian)


def spectrum_histograms(adjacency: Adjacencies) -> FloatArray:
    """The share of eigenvalues by bin, (S, 200), with one rule for those on the edge 2.

    The benchmark's histogram ends at exactly 2.0 and drops what rounding puts beyond, so whether an
    eigenvalue 2 counts depends there on the order of the nodes, hence on Python's hash seed: that
    moves `laplacian_eigen_mmd` of one node size by up to 1.4e-3 between runs (yeast DFS, 20 nodes).
    Here every eigenvalue 2 counts half, in the last bin: midway between "all are in" and "all are
    out", and nearer to recorded runs than either.
    """
    counts, on_edge = spectrum_counts(adjacency)
    counts[:, -1] += EDGE_SHARE * on_edge
    shares: FloatArray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def spectrum_counts(adjacency: Adjacencies) -> tuple[FloatArray, IntArray]:
    """The eigenvalues by bin, (S, 200), without those on the edge 2, and how many are on it, (S,).

    An eigenvalue is on the edge if it is 2 but for rounding; the counts of the last bin lack it.
    """
    eigenvalues = laplacian_eigenvalues(adjacency)
    on_edge = (eigenvalues > 2 - EDGE_TOLERANCE).sum(axis=1)
    counts = _binned(np.minimum(eigenvalues, 2.0), SPECTRUM_EDGES)
    counts[:, -1] -= on_edge
    return counts, on_edge


def _binned(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Counts (S, n) values by bin, (S, bins): [low, high), the last bin with its upper edge."""
    bins = np.searchsorted(edges, values, side="right") - 1
    return _counted(np.minimum(bins, len(edges) - 2), len(edges) - 1)


def _counted(values: IntArray, width: int) -> FloatArray:
    """Counts the integers 0 … width-1 in every row of (S, n), (S, width)."""
    rows = len(values)
    offsets = np.arange(rows)[:, None] * width
    counts = np.bincount((values + offsets).ravel(), minlength=rows * width)
    return counts.reshape(rows, width).astype(np.float64)


def mmd(predicted: FloatArray, true: FloatArray) -> float:
    """The squared maximum mean discrepancy between two populations of histograms.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over all pairs, a graph with itself included,
    where k(x, y) = exp(-TV(x, y)² / 2) and TV is half the L1 distance of the histograms, each
    divided by its sum + 1e-6 (the benchmark's guard against an empty one).

    Args:
        predicted: (S, bins) counts.
        true: (T, bins) counts.
    """
    # Imported when needed: it takes about a second.
    from scipy.spatial.distance import cdist

    samples = np.concatenate([predicted, true])
    samples = samples / (samples.sum(axis=1, keepdims=True) + 1e-6)
    kernel = np.exp(-((cdist(samples, samples, "cityblock") / 2) ** 2) / 2)
    split = len(predicted)
    within = kernel[:split, :split].mean() + kernel[split:, split:].mean()
    return float(within - 2 * kernel[:split, split:].mean())
