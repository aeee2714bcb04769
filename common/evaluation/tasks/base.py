"""The interface of an evaluation task, and what every task returns.

A task is one file in this folder and one line in `common.registry.TASKS`. It is opened before any
pair is scored: it reads its part of the benchmark and refuses data that do not fit. Then it says
which pairs it uses, and judges predictions of them. Its result is written to files and printed
by code that does not know which task it is.
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
from common.data.tables.ids import places_of
from common.evaluation.networks import IntArray, pair_keys
from common.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from common.evaluation.test_side import TestSet


class Remark(str):
    """A note for the reader's information, which is not logged as a warning."""


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    Attributes:
        metrics: The task's entry in `functional.json`; empty if the tables contain all metrics.
        tables: CSV files by name.
        documents: Further JSON files by name.
        charts: What is drawn, by the name of its PNG file; the report shows it as well.
        compared: The metrics by which methods are compared, under names that no other task uses;
            if none are given, the floats among `metrics`.
        resampled: Metrics of `compared` on the resamples of a bootstrap, (R,) each; the resamples
            are the same for all predictions.
        notes: What was ignored, missing or undefined, one sentence each.
        summary: The tables for the console; if there are none, one row of the metrics.
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
    """One way to judge predictions, opened on the test sets.

    Args:
        sets: The test set of the configured species, then those of `evaluate.cross_species`.
        config: The whole configuration.

    Attributes:
        name: Its name in the registry.
        title: The heading of its results; by default its name.
        question: The question that the task answers, for readers of its results.
        better: Which values of the compared metrics are better, by the beginning of their names.
        files: The functional data that the task reads.
        settings: The section `evaluate` of the configuration.
        seed: The seed of everything that the task draws at random.

    Raises:
        UserError: Something that the task needs is missing, or does not fit the test sets.
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
        """Return the path of one of `files`.

        Raises:
            UserError: It does not exist.
        """
        return self.own.benchmark.functional_file(file, self.name)

    @abc.abstractmethod
    def asks(self) -> list[PairSet]:
        """Return the pairs that the task uses."""

    @abc.abstractmethod
    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Judge predictions; a pair without a score counts as not predicted.

        Args:
            predictions: Scores of pairs.
            threshold: The score from which a pair is predicted to interact.
        """

    def direction(self, metric: str) -> str:
        """Say which values of a compared metric are better; empty if the task does not say."""
        return next((way for name, way in self.better.items() if metric.startswith(name)), "")

    def sequences(self) -> dict[str, str]:
        """Return the sequences of proteins that the benchmark's own FASTA may lack."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return the fields of the event `data_ready` about the task's own data."""
        return {}

    def coverage(self, predictions: Predictions) -> list[str]:
        """Return notes about pairs that the task uses and that have no score."""
        return [note for pairs in self.asks() for note in pairs.describe_coverage(predictions)]


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pairs of proteins that a task uses.

    Attributes:
        name: Their name in notes; one name always means the same pairs.
        proteins: Distinct protein ids.
        pairs: (N, 2) indices into `proteins`; None for all pairs, self-pairs included.
    """

    name: str
    proteins: tuple[str, ...]
    pairs: IntArray | None = None

    def rows(self) -> IntArray:
        """Return the pairs, (N, 2) indices into `proteins`."""
        if self.pairs is not None:
            return self.pairs
        return np.stack(np.triu_indices(len(self.proteins)), axis=1)

    def among(self, predictions: Predictions) -> NDArray[np.bool_]:
        """Find which of the predicted pairs belong to this set, (P,)."""
        first, second = places_of(predictions.ids, self.proteins)[predictions.pairs].T
        known: NDArray[np.bool_] = (first >= 0) & (second >= 0)
        if self.pairs is None:
            return known
        count, (left, right) = len(self.proteins), self.pairs.T
        return known & np.isin(pair_keys(first, second, count), pair_keys(left, right, count))

    def describe_coverage(self, predictions: Predictions) -> list[str]:
        """Return notes about pairs without a score, and about self-pairs in a whole network."""
        found, count = self.among(predictions), len(self.proteins)
        total = count * (count + 1) // 2 if self.pairs is None else len(self.pairs)
        notes = explain_missing(total - int(found.sum()), total, self.name)
        loops = int((found & (predictions.pairs[:, 0] == predictions.pairs[:, 1])).sum())
        if self.pairs is None and loops:
            sentence = f"{loops} listed pairs of {self.name} are self-pairs; they count as in the"
            notes.append(Remark(f"{sentence} benchmark"))
        return notes


def explain_missing(missing: int, total: int, where: str) -> list[str]:
    """Return one sentence on how many pairs have no score; an empty list if all have one."""
    if not missing:
        return []
    if missing == total:
        return [f"none of the {total} pairs of {where} has a score, so none is predicted"]
    return [f"{missing} of {total} pairs of {where} have no score and count as not predicted"]
