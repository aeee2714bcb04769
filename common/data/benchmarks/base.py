"""Defines `Benchmark`, the interface through which splits, sequences and networks are read.

A benchmark is a class that is registered by name in `common.registry.BENCHMARKS`. The constructor
opens the files on disk; before that, `provide` generates or downloads missing files if possible.
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
    """A benchmark, restricted to one species and one split strategy.

    Attributes:
        settings: The configuration in `data_config.benchmark`.
        name: The benchmark's registered name.
        species: The species' name.
        strategy: The kind of walk that drew the test proteins, or the node sets among them.
        cache_dir: The directory in which parsed text files are kept.

    Raises:
        UserError: The benchmark, or this species, does not exist on disk.
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
        """Generate or download missing files; called by the main process before files are opened.

        Args:
            settings: The configured species and strategy.
            seed: The seed of a generated benchmark.
            splits: The splits that will be read; `test` includes the test network and node sets.
            functional: The files of `functional_dir` that will be read.

        Raises:
            UserError: The benchmark cannot be generated or downloaded.
        """

    @classmethod
    def prepare(
        cls,
        data: DataConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate or download missing files of the configured species, given all of `data`."""
        cls.provide(data.benchmark, seed, splits, functional)

    @abc.abstractmethod
    def pairs(self, split: Split) -> PairTable:
        """Return the labelled pairs of a split.

        `all_test` contains all unordered pairs of test proteins, self-pairs included.
        """

    @abc.abstractmethod
    def sequences(self) -> dict[str, str]:
        """Return the amino-acid sequence of every protein of the species."""

    @abc.abstractmethod
    def test_graph(self) -> nx.Graph:
        """Return the network of interactions among the test proteins, self-loops included."""

    @abc.abstractmethod
    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        """Return the sampled sets of test proteins (node sets) by strategy and size.

        Only strategies that sample this test network are returned, the configured one first.

        Args:
            strategies: The requested strategies; if empty, all that have node sets.

        Raises:
            UserError: There are no node sets, or a requested strategy has none.
        """

    def files(self) -> Mapping[str, Path]:
        """Return the paths of the benchmark's files by kind, such as `test`."""
        return {}

    def has(self, content: str) -> bool:
        """Return whether a file of this kind exists; always true if `files` lists no files."""
        files = self.files()
        return content in files or not files

    def functional_file(self, name: str, task: str) -> Path:
        """Return the path of a functional data file: complexes, GO terms or essential proteins.

        Args:
            name: The name of the file.
            task: The task that needs the file, for the message.

        Raises:
            UserError: `data_config.benchmark.functional_dir` is not set, or lacks the file.
        """
        key, configured = "data_config.benchmark.functional_dir", self.settings.functional_dir
        if configured is None:
            raise UserError(
                f"{key} is not set, but the task {task} needs this folder, which contains the"
                " benchmark's complexes, GO terms and essential proteins; set the key, or leave out"
                " the task"
            )
        path = Path(configured) / name
        if not path.is_file():
            lacks = f"has no {name}" if path.parent.is_dir() else "is not an existing directory"
            raise UserError(
                f"{key} ({path.parent}) {lacks}, but the task {task} needs this file; set the key"
                f" to the folder that contains {name}, or leave out the task"
            )
        return path
