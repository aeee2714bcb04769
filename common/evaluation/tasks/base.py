"""The interface of an evaluation task, and the result that every task returns.

A task is defined in a file in this folder and registered by a line in `common.registry.TASKS`. The
task is created before any pair is scored: it reads its part of the benchmark and rejects data that
do not match the test proteins. Then the task lists the pairs that it uses, and evaluates
predictions for these pairs. Code that is the same for all tasks writes and prints the result.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.charts import Chart
from common.config import Config
from common.csv_log import Table
from common.evaluation.pair_sets import PairSet
from common.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from common.evaluation.test_set import TestSet


@dataclass(frozen=True)
class TaskResult:
    """The metrics, files, charts and notes that result from evaluating predictions on a task.

    Attributes:
        metrics: The task's entry in `functional.json`; empty if the tables contain all metrics.
        tables: The tables to write, by the name of the CSV file.
        documents: Further content to write, by the name of the JSON file.
        charts: The charts to draw and to show in the report, by the name of the PNG file.
        compared: The metrics that serve to compare methods, under names that no other task uses; by
            default the floats among `metrics`.
        resampled: Metrics of `compared` on bootstrap resamples, (R,) each; the resamples are the
            same for all predictions.
        notes: Sentences about ignored, missing or undefined data.
        summary: The tables for the console; if empty, the console shows `metrics` in one row.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    charts: Mapping[str, Chart] = field(default_factory=dict)
    notes: Sequence[str] = ()
    summary: Sequence[Table] = ()
    compared: Mapping[str, float | None] = field(default_factory=dict)
    resampled: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.compared:
            floats = {k: v for k, v in self.metrics.items() if v is None or isinstance(v, float)}
            object.__setattr__(self, "compared", floats)


class Task(abc.ABC):
    """An evaluation task, which computes metrics of predictions on the test sets.

    Args:
        sets: The test sets, first that of the configured species, then `evaluate.cross_species`.
        config: The whole configuration.

    Attributes:
        name: The name of the task in the registry.
        title: The heading of the task's results; by default the name.
        question: The question that the task answers, for readers of the report.
        better: Which values of the compared metrics are better, by the prefix of the metric's name.
        files: The names of the functional data files that the task reads.
        settings: The section `evaluate` of the configuration.
        seed: The seed of all random draws.

    Raises:
        UserError: Data of the task are missing, or do not match the test sets.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    question: ClassVar[str] = ""
    better: ClassVar[Mapping[str, str]] = MappingProxyType({})
    files: ClassVar[tuple[str, ...]] = ()

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        self.sets, self.own = sets, sets[0]
        self.settings, self.seed = config.evaluate, config.run.seed

    def path(self, file: str) -> Path:
        """Return the path of a file that `files` lists.

        Raises:
            UserError: The file does not exist.
        """
        return self.own.benchmark.functional_file(file, self.name)

    @abc.abstractmethod
    def asks(self) -> list[PairSet]:
        """Return the pairs that the task uses."""

    @abc.abstractmethod
    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Evaluate predictions, counting pairs without a score as not predicted.

        Args:
            predictions: The scores of pairs.
            threshold: The lowest score of a predicted interaction.
        """

    def direction(self, metric: str) -> str:
        """Return which values of a metric are better, such as `higher`; empty if not defined."""
        return next((way for name, way in self.better.items() if metric.startswith(name)), "")

    def sequences(self) -> dict[str, str]:
        """Return the sequences of proteins that the benchmark's FASTA file may lack."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return descriptions of the task's data, as fields of the event `data_ready`."""
        return {}

    def coverage(self, predictions: Predictions) -> list[str]:
        """Return notes about pairs that the task uses but that have no score."""
        return [note for pairs in self.asks() for note in pairs.describe_coverage(predictions)]
