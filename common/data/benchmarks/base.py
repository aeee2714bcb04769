"""The benchmark contract: what every benchmark gives, whatever its files look like.

A benchmark is a class, registered by its name in `common.registry.BENCHMARKS`. Constructing it
opens what is on the disk; `provide` puts it there first, where that is possible.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import networkx as nx

from common.config import BenchmarkConfig, Strategy
from common.data.tables.pairs import PairTable
from common.errors import UserError

Split = Literal["train", "val", "test", "all_test"]


class Benchmark(abc.ABC):
    """One species and split strategy of a benchmark.

    Args:
        settings: Which one, and where its files are.

    Raises:
        UserError: The benchmark, or this species, does not exist on the disk.
    """

    def __init__(self, settings: BenchmarkConfig) -> None:
        self.settings = settings

    @classmethod  # noqa: B027 (most benchmarks have nothing to do here)
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate or fetch what is missing on the disk; rank 0 calls this before all ranks open.

        Args:
            settings: Which species and strategy.
            seed: Of what is generated.
            splits: What will be read; `test` stands for the test network and node sets as well.
            functional: The files of `functional_dir` that will be read.

        Raises:
            UserError: It cannot be generated or fetched.
        """

    @property
    def name(self) -> str:
        """The benchmark's registered name."""
        return self.settings.name

    @property
    def species(self) -> str:
        """The species' name."""
        return self.settings.species

    @property
    def strategy(self) -> Strategy:
        """How the test proteins, or the sampled subgraphs of them, were drawn."""
        return self.settings.split_strategy

    @property
    def cache_dir(self) -> Path:
        """Where parsed text is kept."""
        return Path(self.settings.cache_dir)

    @abc.abstractmethod
    def pairs(self, split: Split) -> PairTable:
        """The labelled pairs of a split.

        `all_test` is every unordered pair of the test proteins, self-pairs included.
        """

    @abc.abstractmethod
    def sequences(self) -> dict[str, str]:
        """The amino-acid sequence of every protein of the species."""

    @abc.abstractmethod
    def test_graph(self) -> nx.Graph:
        """The interactions among the test proteins, self-loops included."""

    @abc.abstractmethod
    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        """The sampled subsets of the test proteins by strategy and size.

        Only strategies that sample this very test network are given, the configured one first.

        Args:
            strategies: Whose node sets are wanted; none for all that exist.

        Raises:
            UserError: There are no node sets, or none of a strategy that is wanted.
        """

    def files(self) -> Mapping[str, Path]:
        """The files that the benchmark is read from, by what they hold."""
        return {}

    def functional_file(self, name: str, task: str) -> Path:
        """A file of the functional data: complexes, GO terms, essential proteins.

        Args:
            name: The file's name.
            task: The task that needs it, for the message.

        Raises:
            UserError: `data_config.benchmark.functional_dir` is not set, or does not have the file.
        """
        key, configured = "data_config.benchmark.functional_dir", self.settings.functional_dir
        if configured is None:
            raise UserError(
                f"the task {task} needs {key}, the folder with the benchmark's complexes, GO terms"
                " and essential proteins; set it, or leave the task out"
            )
        folder = Path(configured)
        if not folder.is_dir():
            raise UserError(
                f"{key} ({folder}) is not an existing directory; set it to the folder with the"
                " benchmark's complexes, GO terms and essential proteins"
            )
        if not (folder / name).is_file():
            raise UserError(
                f"{key} ({folder}) has no {name}, which the task {task} needs; set it to the"
                " folder that has this file, or leave the task out"
            )
        return folder / name
