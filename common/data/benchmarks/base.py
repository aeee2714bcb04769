"""The interface of benchmarks: what every benchmark provides, whatever its files look like.

A benchmark is a class, registered by its name in `common.registry.BENCHMARKS`. Constructing it
opens the files on the disk; `provide` generates or fetches missing files first, where that is
possible.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import networkx as nx

from common.config_data import BenchmarkConfig, DataConfig, Strategy
from common.data.tables.pairs import PairTable
from common.errors import UserError

Split = Literal["train", "val", "test", "all_test"]


class Benchmark(abc.ABC):
    """One species and split strategy of a benchmark.

    Attributes:
        settings: The configuration in `data_config.benchmark`.
        name: The benchmark's registered name.
        species: The species' name.
        strategy: How the test proteins, or the sampled subgraphs of them, were drawn.
        cache_dir: Where parsed text files are kept.

    Raises:
        UserError: The benchmark, or this species, does not exist on the disk.
    """

    def __init__(self, settings: BenchmarkConfig) -> None:
        self.settings = settings
        self.name, self.species = settings.name, settings.species
        self.strategy: Strategy = settings.split_strategy
        self.cache_dir = Path(settings.cache_dir)

    @classmethod  # noqa: B027 (most benchmarks have nothing to do here)
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate or fetch the missing files; rank 0 calls this before all ranks open them.

        Args:
            settings: The configured species and strategy.
            seed: The seed for what is generated.
            splits: The splits that will be read; `test` stands for the test network and node sets
                as well.
            functional: The files of `functional_dir` that will be read.

        Raises:
            UserError: The benchmark cannot be generated or fetched.
        """

    @classmethod
    def prepare(
        cls,
        data: DataConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Like `provide`, for the configured species; may use other sections of `data_config`."""
        cls.provide(data.benchmark, seed, splits, functional)

    @abc.abstractmethod
    def pairs(self, split: Split) -> PairTable:
        """Return the labelled pairs of a split.

        `all_test` is every unordered pair of the test proteins, self-pairs included.
        """

    @abc.abstractmethod
    def sequences(self) -> dict[str, str]:
        """Return the amino-acid sequence of every protein of the species."""

    @abc.abstractmethod
    def test_graph(self) -> nx.Graph:
        """Return the interactions among the test proteins, self-loops included."""

    @abc.abstractmethod
    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        """Return the sampled subsets of the test proteins by strategy and size.

        Only strategies that sample this same test network are returned, the configured one first.

        Args:
            strategies: The strategies whose node sets are wanted; if empty, all that exist.

        Raises:
            UserError: There are no node sets, or none of a strategy that is wanted.
        """

    def files(self) -> Mapping[str, Path]:
        """Return the files that the benchmark is read from, by their content."""
        return {}

    def has(self, content: str) -> bool:
        """Whether there is a file with this content; always true if no files are listed."""
        files = self.files()
        return content in files or not files

    def functional_file(self, name: str, task: str) -> Path:
        """Return a file of the functional data: complexes, GO terms, essential proteins.

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
        path = Path(configured) / name
        if not path.is_file():
            lacks = f"has no {name}" if path.parent.is_dir() else "is not an existing directory"
            raise UserError(
                f"{key} ({path.parent}) {lacks}, but the task {task} needs {path}; set it to the"
                " folder that has this file, or leave the task out"
            )
        return path
