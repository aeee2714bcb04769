"""Report the density of predicted networks, compared with the true and the training network.

Read the density together with every other network metric: a network of nearly all pairs, or of
self-pairs alone, can look similar to the true network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.csv_log import Table
from common.data.benchmarks.base import Benchmark
from common.evaluation.networks import Network
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.inference.thresholds import Threshold

NETWORK_FILE = "network.json"
# A warning is logged above this ratio of predicted to true interactions. With `match_density`, the
# ratio reaches 2 to 3 where the sampled node sets are denser than the whole network
# (`docs/evaluation.md`).
TOO_DENSE = 4.0


@dataclass(frozen=True)
class Density:
    """The numbers of predicted, possible and true interactions among one species' test proteins.

    Attributes:
        called: Pairs that are predicted to interact.
        possible: All pairs of the test proteins.
        true: Interactions of the true test network.
        train: The density of the network of positive training pairs; None without a train split.
    """

    called: int
    possible: int
    true: int
    train: float | None

    @property
    def density(self) -> float:
        """The fraction of the possible pairs that are predicted to interact."""
        return self.called / self.possible if self.possible else 0.0

    @property
    def times_true(self) -> float | None:
        """The ratio of predicted to true interactions; None without true interactions."""
        return self.called / self.true if self.true else None

    @property
    def times_train(self) -> float | None:
        """The ratio of the density to the training network's density; None if unknown."""
        return self.density / self.train if self.train else None

    def describe(self) -> dict[str, Any]:
        """Return the counts and densities as they are written to `network.json`."""
        return {
            "called": self.called,
            "possible": self.possible,
            "density": self.density,
            "true": self.true,
            "true_density": self.true / self.possible if self.possible else 0.0,
            "times_true_density": self.times_true,
            "train_density": self.train,
            "times_train_density": self.times_train,
        }


@dataclass(frozen=True)
class NetworkSummary:
    """The density of one species' predicted network, with and without self-pairs."""

    species: str
    proteins: int
    every: Density
    plain: Density

    @classmethod
    def of(
        cls, species: str, predicted: Network, true: Network, train: Network | None
    ) -> NetworkSummary:
        """Count predicted and true interactions among the proteins of the true network.

        Args:
            species: The name of the species.
            predicted: The predicted network, which may contain further proteins.
            true: The true network of the test proteins.
            train: The network of positive training pairs; None without a train split.
        """
        count, called = len(true.nodes), predicted.on(true.nodes)
        every, plain = (
            Density(len(ours.edges), possible(count, loops), len(theirs.edges), density)
            for ours, theirs, loops, density in (
                (called, true, True, _density(train, True)),
                (called.without_self_pairs(), true.without_self_pairs(), False,
                 _density(train, False)),
            )
        )  # fmt: skip
        return cls(species, count, every, plain)

    def describe(self) -> dict[str, Any]:
        """Return the summary as it is written to `network.json`."""
        return {
            "proteins": self.proteins,
            "with_self_pairs": self.every.describe(),
            "without_self_pairs": self.plain.describe(),
        }

    def sentence(self) -> str:
        """Describe the number of predicted interactions, compared with the true network."""
        part = self.every
        text = (
            f"{part.called} of {part.possible} pairs are predicted to interact"
            f" (density {part.density:.3g})"
        )
        if part.times_true is not None:
            text += f", {part.times_true:.3g} times as many as in the true network"
        return text

    def warnings(self) -> list[str]:
        """Return a one-sentence warning if the network is much denser than the true network."""
        times = self.every.times_true
        if times is None or times <= TOO_DENSE:
            return []
        return [
            f"the predicted network of {self.species} is far too dense: {self.sentence()}; raise"
            " evaluate.decision_threshold.value or, for a model, set"
            " evaluate.decision_threshold.mode to match_density"
        ]


def possible(proteins: int, self_pairs: bool) -> int:
    """Return the number of possible pairs of `proteins` proteins, with or without self-pairs."""
    return proteins * (proteins + (1 if self_pairs else -1)) // 2


def _density(network: Network | None, self_pairs: bool) -> float | None:
    if network is None:
        return None
    edges = (network if self_pairs else network.without_self_pairs()).edges
    return len(edges) / max(possible(len(network.nodes), self_pairs), 1)


def train_network(benchmark: Benchmark) -> Network | None:
    """Return the network of the positive training pairs, or None without a train split."""
    if not benchmark.has("train"):
        return None
    table = benchmark.pairs("train")
    return Network.from_indices(table.proteins, table.pairs[table.labels == 1])


def summarize_networks(
    side: TestSide, predictions: Predictions, threshold: float
) -> list[NetworkSummary]:
    """Summarise the predicted network of each species for which a task uses all pairs.

    Only the network of the configured species is compared with the training network.
    """
    predicted, summaries = predictions.edges(threshold), []
    for test_set in side.whole_networks():
        own = test_set is side.sets[0]
        train = train_network(test_set.benchmark) if own else None
        summaries.append(NetworkSummary.of(test_set.species, predicted, test_set.network, train))
    return summaries


def describe_networks(summaries: Sequence[NetworkSummary], threshold: Threshold) -> dict[str, Any]:
    """Return the threshold and all networks' summaries as the content of `network.json`."""
    return {
        "threshold": threshold.value,
        "threshold_mode": threshold.mode,
        "networks": {each.species: each.describe() for each in summaries},
    }


def tabulate_networks(summaries: Sequence[NetworkSummary], threshold: Threshold) -> Table:
    """Build the console table of the networks' sizes and densities."""
    title = f"network (threshold {threshold.value:.4g}, {threshold.mode})"
    header = (title, "proteins", "called", "possible", "density", "true", "times_true",
              "times_train")  # fmt: skip
    rows = [
        {
            title: name,
            "proteins": each.proteins,
            "called": part.called,
            "possible": part.possible,
            "density": part.density,
            "true": part.true,
            "times_true": _rounded(part.times_true),
            "times_train": _rounded(part.times_train),
        }
        for each in summaries
        for name, part in (
            (each.species, each.every),
            (f"{each.species} without self-pairs", each.plain),
        )
    ]
    return Table(header, rows)


def _rounded(times: float | None) -> str | None:
    return None if times is None else f"{times:.3g}"
