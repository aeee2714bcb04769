"""Compare the topology of the predicted and the true network, as PRING's topology task does.

The task compares the two networks on sampled node sets of several sizes. For each size, the task
computes the mean graph similarity, the mean relative density, and three maximum mean discrepancies
(MMD) between the two populations of subgraphs: of the degrees, of the clustering coefficients and
of the Laplacian spectra. `common/evaluation/subgraphs.py` contains the formulas.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from common.charts import Chart
from common.config import Config
from common.csv_log import Table
from common.errors import UserError, count_of
from common.evaluation.networks import IntArray, Network, one_blas_thread
from common.evaluation.pair_sets import PairSet
from common.evaluation.plots import chart_degrees, chart_topology
from common.evaluation.predictions import Predictions
from common.evaluation.subgraphs import (
    WITHOUT_SELF_PAIRS,
    Comparison,
    TopologyRow,
    compare_subgraphs,
)
from common.evaluation.tasks.base import Task, TaskResult

if TYPE_CHECKING:
    from common.evaluation.test_set import TestSet

NodeSets = Mapping[int, Sequence[Collection[str]]]


HEADER = tuple(column.name for column in fields(TopologyRow))
METRICS = HEADER[3:]
DISCREPANCIES = HEADER[5:]
RATIO_HEADER = (*HEADER[:3], *(f"{name}_ratio" for name in DISCREPANCIES))
SUMMARY_HEADER = ("species", "strategy", "self_pairs", *HEADER[1:])
COMPARED = ("graph_sim", "relative_density")  # similarity is never shown without density


class Topology(Task):
    """Computes topology metrics for each species and each sampling strategy of node sets."""

    name = "topology"
    title = "Topology of the network"
    question = (
        "Is the predicted network similar to the true network on sampled sets of proteins? A "
        "similarity is only meaningful if the relative density is near 1."
    )
    better = MappingProxyType({"graph_sim": "higher", "relative_density": "1 is best"})

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
        """Compare the predicted and true networks on the node sets of each species and strategy."""
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
    """Compare the predicted and the true network on sampled node sets.

    Proteins that the true network lacks are ignored, both in the predicted network and in node
    sets. Node sets in which the true network lacks all proteins are left out; `describe_node_sets`
    counts such node sets.

    Args:
        predicted: The predicted network; proteins that are missing have no predicted interactions.
        true: The true network.
        node_sets: Node sets by size; a protein that occurs twice in a set counts once.

    Returns:
        A row for each node-set size in ascending order, then a row with the means of all sizes.

    Raises:
        UserError: No node set has a member in the true network.
    """
    return topology_rows(compare_networks(predicted, true, node_sets))


def compare_networks(predicted: Network, true: Network, node_sets: NodeSets) -> list[Comparison]:
    """Compare two networks on sampled node sets, and return the full comparison for each size."""
    predicted, members = predicted.on(true.nodes), known_members(node_sets, true)
    with one_blas_thread():
        return [compare_subgraphs(size, members[size], predicted, true) for size in members]


def topology_rows(compared: Sequence[Comparison]) -> list[TopologyRow]:
    """Return the rows of `topology.csv`: a row for each size, and a row of means."""
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
    """Return the rows of `topology_ratios.csv`, with MMDs relative to those among true subgraphs.

    A ratio is the MMD between predicted and true subgraphs, divided by the MMD between halves of
    the true subgraphs. The ratio is undefined if all true subgraphs of a size are alike, or if a
    size has only one subgraph. The summary row contains the means of the defined ratios.
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
    """Return two rows for the console: the means over all sizes, with and without self-pairs.

    The second row is shown because self-pairs are easy to predict: a network of self-pairs alone
    can reach a higher similarity than a network with the right number of interactions.
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
    """Return a note for each size whose node sets contain proteins that the test graph lacks."""
    notes = []
    for size in sorted(node_sets):
        distinct = [set(names) for names in node_sets[size]]
        known = [sum(name in true.index for name in names) for names in distinct]
        unknown = sum(map(len, distinct)) - sum(known)
        if unknown:
            of = f"of the node sets of size {size}"
            notes.append(
                f"{count_of(unknown, f'member {of} is', f'members {of} are')} ignored (not in the"
                f" test graph), which leaves out {known.count(0)} of {len(known)} node sets"
            )
    return notes


def known_members(node_sets: NodeSets, true: Network) -> dict[int, list[IntArray]]:
    """Return the sorted node indices of each node set's known proteins, by ascending size.

    Node sets without a protein of the true network are left out.

    Raises:
        UserError: No node set has a protein of the true network.
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
            "no sampled node set contains a protein of the test graph; use node sets and a graph"
            " of the same species and split"
        )
    return members
