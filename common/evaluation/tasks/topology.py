"""How much a predicted network looks like the true one: the topology task of PRING.

The task compares the two networks on sampled node sets of several sizes. Per size it gives the mean
graph similarity, the mean relative density, and three maximum mean discrepancies (MMD) between the
two populations of subgraphs: of their degrees, their clustering coefficients and their Laplacian
spectra. The figures are those of PRING's `topology_task/eval.py` (github.com/SophieSarceau/PRING),
whose MMD descends from GRAN and GraphRNN (You et al., 2018). Here a node size is a few batches of
dense adjacencies (S, n, n), one batched eigenvalue problem each, and one kernel matrix per MMD.

A self-pair counts as the benchmark counts it: once as an edge, twice in the degree, not at all in
the clustering, once in the degree that normalises the Laplacian.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.evaluation.networks import FloatArray, IntArray, Network, one_blas_thread

NodeSets = Mapping[int, Sequence[Collection[str]]]
Adjacencies = NDArray[np.float32]

CLUSTERING_EDGES = np.linspace(0.0, 1.0, 101)
SPECTRUM_EDGES = np.linspace(-1e-5, 2.0, 201)  # the many eigenvalues 0 and 1 lie inside bins
EDGE_SHARE = 0.5  # what an eigenvalue 2, on the histogram's edge, counts
EDGE_TOLERANCE = 1e-9  # rounding errs by 1e-14; the next eigenvalue is 1e-8 away at 800 nodes
BATCH_ELEMENTS = 2_000_000  # of one (S, n, n) batch: 16 MB in float64, whatever the node sets


@dataclass(frozen=True)
class TopologyRow:
    """One row of `topology.csv`: the figures of a node size, or their mean over the sizes.

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


class Histograms(NamedTuple):
    """Counts over S subgraphs, one row each: (S, D) degrees, (S, 100), (S, 200) eigenvalues."""

    degrees: FloatArray
    clustering: FloatArray
    spectrum: FloatArray


class Comparison(NamedTuple):
    """What a batch of S subgraph pairs contributes to its node size."""

    similarity: FloatArray
    density: FloatArray
    predicted: Histograms
    true: Histograms


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
    predicted = predicted.on(true.nodes)
    rows = []
    with one_blas_thread():
        for size in sorted(node_sets):
            members = _known_members(node_sets[size], true)
            if members:
                rows.append(_size_row(size, members, predicted, true))
    if not rows:
        raise UserError(
            "no sampled node set has a protein of the test graph: take node sets and graph of the "
            "same species and split"
        )
    return [*rows, _summary_row(rows)]


def describe_node_sets(node_sets: NodeSets, true: Network) -> list[str]:
    """Says in one line per node size what of its node sets cannot count; nothing if all does."""
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


def _known_members(sets: Sequence[Collection[str]], true: Network) -> list[IntArray]:
    """The sorted node indices of every set that has a known member."""
    places = ({true.index[name] for name in names if name in true.index} for names in sets)
    return [np.array(sorted(found), dtype=np.int64) for found in places if found]


def _size_row(size: int, members: list[IntArray], predicted: Network, true: Network) -> TopologyRow:
    longest = max(map(len, members))
    parts = [_compare(*pair, longest) for pair in _adjacency_batches(members, predicted, true)]
    return TopologyRow(
        scope="node_size",
        node_size=size,
        graph_count=len(members),
        graph_sim=float(np.concatenate([part.similarity for part in parts]).mean()),
        relative_density=float(np.concatenate([part.density for part in parts]).mean()),
        deg_dist_mmd=_histogram_mmd(parts, "degrees"),
        cc_mmd=_histogram_mmd(parts, "clustering"),
        laplacian_eigen_mmd=_histogram_mmd(parts, "spectrum"),
    )


def _summary_row(rows: list[TopologyRow]) -> TopologyRow:
    def mean(figure: str) -> float:
        return float(np.mean([getattr(row, figure) for row in rows]))

    return TopologyRow(
        scope="summary",
        node_size=None,
        graph_count=sum(row.graph_count for row in rows),
        graph_sim=mean("graph_sim"),
        relative_density=mean("relative_density"),
        deg_dist_mmd=mean("deg_dist_mmd"),
        cc_mmd=mean("cc_mmd"),
        laplacian_eigen_mmd=mean("laplacian_eigen_mmd"),
    )


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


def _compare(predicted: Adjacencies, true: Adjacencies, longest: int) -> Comparison:
    return Comparison(
        graph_similarity(predicted, true),
        relative_density(predicted, true),
        _histograms(predicted, longest),
        _histograms(true, longest),
    )


def _histograms(adjacency: Adjacencies, longest: int) -> Histograms:
    return Histograms(
        degree_histograms(adjacency, longest + 2),  # n - 1 others and a self-pair: at most n + 1
        _binned(clustering_coefficients(adjacency), CLUSTERING_EDGES),
        spectrum_histograms(adjacency),
    )


def _histogram_mmd(parts: list[Comparison], which: str) -> float:
    predicted = np.concatenate([getattr(part.predicted, which) for part in parts])
    true = np.concatenate([getattr(part.true, which) for part in parts])
    return mmd(predicted, true)


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
    from scipy.spatial.distance import cdist

    samples = np.concatenate([predicted, true])
    samples = samples / (samples.sum(axis=1, keepdims=True) + 1e-6)
    kernel = np.exp(-((cdist(samples, samples, "cityblock") / 2) ** 2) / 2)
    split = len(predicted)
    within = kernel[:split, :split].mean() + kernel[split:, split:].mean()
    return float(within - 2 * kernel[:split, split:].mean())
