"""Does the predicted network look like the true one? The topology task of PRING.

The task compares the two networks on sampled node sets of several sizes. Per size it gives the mean
graph similarity, the mean relative density, and three maximum mean discrepancies (MMD) between the
two populations of subgraphs: of their degrees, their clustering coefficients and their Laplacian
spectra. `common/evaluation/subgraphs.py` has their formulas.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from common.charts import Chart
from common.config import Config
from common.csv_log import Table
from common.errors import UserError
from common.evaluation.networks import IntArray, Network, one_blas_thread
from common.evaluation.plots import chart_degrees, chart_topology
from common.evaluation.predictions import Predictions
from common.evaluation.subgraphs import WITHOUT_SELF_PAIRS, Comparison, compare_subgraphs
from common.evaluation.tasks.base import PairSet, Task, TaskResult

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet

NodeSets = Mapping[int, Sequence[Collection[str]]]


@dataclass(frozen=True)
class TopologyRow:
    """One row of `topology.csv`: the metrics of subgraphs of one size, or their mean over sizes.

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
DISCREPANCIES = HEADER[5:]
RATIO_HEADER = (*HEADER[:3], *(f"{name}_ratio" for name in DISCREPANCIES))
SUMMARY_HEADER = ("species", "strategy", "self_pairs", *HEADER[1:])
COMPARED = ("graph_sim", "relative_density")  # similarity is never shown without density


class Topology(Task):
    """The metrics of every species and strategy: `topology.csv` for the first, others beside it."""

    name = "topology"
    title = "Topology of the network"
    question = (
        "Does the predicted network look like the true one on sampled sets of proteins? A "
        "similarity counts only where the relative density is near 1."
    )
    better = MappingProxyType({"graph_sim": "higher", "relative_density": "1 is right"})

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
        """Return all pairs of each species' test proteins."""
        return [test_set.network_pairs for test_set in self.sets]

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compare the networks on the node sets of each species and strategy."""
        predicted = predictions.edges(threshold)
        tables: dict[str, Table] = {}
        degrees = chart_degrees(predicted, self.own.network, self.own.species)
        charts: dict[str, Chart] = {}
        methods: dict[str, float | None] = {}
        notes, means = [], []
        for test_set, strategy, node_sets in self.samples:
            species, true = test_set.species, test_set.network
            compared = compare_networks(predicted, true, node_sets)
            rows = topology_rows(compared)
            name = f".{species}.{strategy}" if tables else ""
            tables[f"topology{name}.csv"] = Table(HEADER, [vars(row) for row in rows])
            tables[f"topology_ratios{name}.csv"] = Table(RATIO_HEADER, ratio_rows(compared))
            charts[f"topology{name}.png"] = chart_topology(rows, f"{species} {strategy}")
            notes += describe_node_sets(node_sets, true)
            named = {"species": species, "strategy": strategy, "node_size": "mean"}
            every, plain = summarize(rows[-1], compared)
            means += [named | every, named | plain]
            suffix = strategy if test_set is self.own else f"{species}_{strategy}"
            methods |= {f"{metric}_{suffix}": every[metric] for metric in COMPARED}
            methods[f"graph_sim{WITHOUT_SELF_PAIRS}_{suffix}"] = plain["graph_sim"]
        summary = Table(SUMMARY_HEADER, means)
        return TaskResult(
            tables=tables,
            charts={**charts, "degrees.png": degrees},
            notes=notes,
            summary=[summary],
            compared=methods,
        )


def topology(predicted: Network, true: Network, node_sets: NodeSets) -> list[TopologyRow]:
    """Compare two networks on sampled node sets.

    The true network decides which proteins exist: predicted pairs with others do not count, and
    neither do members of a node set that the true network lacks. Node sets without any known member
    are left out; `describe_node_sets` says how many.

    Args:
        predicted: The predicted network; proteins that it lacks have no predicted interaction.
        true: The true network.
        node_sets: Node sets by their size; a protein named twice in one set counts once.

    Returns:
        One row per node size in rising order, then the row of their means.

    Raises:
        UserError: No node set has a member in the true network.
    """
    return topology_rows(compare_networks(predicted, true, node_sets))


def compare_networks(predicted: Network, true: Network, node_sets: NodeSets) -> list[Comparison]:
    """Compare two networks like `topology`, but return everything that is found at each size."""
    predicted, members = predicted.on(true.nodes), known_members(node_sets, true)
    with one_blas_thread():
        return [compare_subgraphs(size, members[size], predicted, true) for size in members]


def topology_rows(compared: Sequence[Comparison]) -> list[TopologyRow]:
    """Return the rows of `topology.csv`."""
    rows = [
        TopologyRow(
            "node_size",
            each.size,
            each.count,
            graph_sim=each.mean("graph_sim"),
            relative_density=each.mean("relative_density"),
            **each.discrepancies(),
        )
        for each in compared
    ]
    means = {name: float(np.mean([getattr(row, name) for row in rows])) for name in METRICS}
    return [*rows, TopologyRow("summary", None, sum(row.graph_count for row in rows), **means)]


def ratio_rows(compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the rows of `topology_ratios.csv`: each MMD over that of the true network with itself.

    A ratio is undefined where the true subgraphs of a size are all alike, or there is only one; the
    summary is the mean of the defined ratios.
    """
    ratios = [each.ratios() for each in compared]
    means: dict[str, float | None] = {}
    for name in DISCREPANCIES:
        defined = [value for size in ratios if (value := size[name]) is not None]
        means[name] = float(np.mean(defined)) if defined else None
    total = sum(each.count for each in compared)
    named: list[tuple[object, ...]] = [("node_size", each.size, each.count) for each in compared]
    named.append(("summary", None, total))
    return [
        dict(zip(RATIO_HEADER, (*head, *row.values()), strict=True))
        for head, row in zip(named, [*ratios, means], strict=True)
    ]


def summarize(mean: TopologyRow, compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the console's rows: the means over all sizes, with and without self-pairs.

    Self-pairs are a row of their own because they are easy to predict: alone, they can reach a
    higher similarity than a network with the right number of interactions.
    """
    plain = {
        name: float(np.mean([each.mean(f"{name}{WITHOUT_SELF_PAIRS}") for each in compared]))
        for name in ("graph_sim", "relative_density")
    }
    row = {name: getattr(mean, name) for name in HEADER[2:]}
    return [
        {"self_pairs": "with", **row},
        {"self_pairs": "without", "graph_count": mean.graph_count, **plain},
    ]


def describe_node_sets(node_sets: NodeSets, true: Network) -> list[str]:
    """Note, for each node size, which members of its node sets are not in the test graph."""
    notes = []
    for size in sorted(node_sets):
        distinct = [set(names) for names in node_sets[size]]
        known = [sum(name in true.index for name in names) for names in distinct]
        unknown = sum(map(len, distinct)) - sum(known)
        if unknown:
            notes.append(
                f"node size {size}: {unknown} members of node sets are not in the test graph and"
                f" are ignored, which leaves out {known.count(0)} of {len(known)} node sets"
            )
    return notes


def known_members(node_sets: NodeSets, true: Network) -> dict[int, list[IntArray]]:
    """Return the sorted node indices of each node set with a known member, by rising size.

    Raises:
        UserError: No node set has a known member.
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
            "no sampled node set has a protein of the test graph: use node sets and a graph of"
            " the same species and split"
        )
    return members
