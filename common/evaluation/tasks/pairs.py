"""Evaluate the ranking and classification of labelled test pairs, with and without self-pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import datasets
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.charts import Chart
from common.config import Config
from common.config_data import METRIC_NAMES
from common.csv_log import Cell, Table
from common.data.tables.pairs import PairTable
from common.errors import count_of
from common.evaluation.difficulty import Class, classify_pairs, explain_classes
from common.evaluation.hf_evaluate import Metric, MetricInfo
from common.evaluation.intervals import LEVEL, Interval, Measured, Resamples, ScoredPairs
from common.evaluation.networks import pair_keys
from common.evaluation.pair_sets import PairSet, explain_missing
from common.evaluation.predictions import Predictions
from common.evaluation.ranking_plots import chart_pairs
from common.evaluation.tasks.base import Task, TaskResult
from common.evaluation.test_set import TestSet
from common.inference.pair_metrics import RANKINGS, Metrics, pair_metrics

HEADER = ("split", *METRIC_NAMES)
INTERVALS_FILE, WITHOUT_SELF_PAIRS = "evaluate_intervals.json", "_without_self_pairs"
HIGHEST = np.finfo(np.float64).max / 4  # so that sums and differences of two scores are finite


class Pairs(Task):
    """Computes the metrics of every species' test pairs for `evaluate.csv`, with intervals."""

    name = "pairs"
    title = "Labelled pairs"
    question = (
        "Are the labelled test pairs ranked and classified correctly, with and without self-pairs?"
    )
    better = MappingProxyType({"auroc": "higher", "auprc": "higher"})

    def __init__(self, sets: Sequence[TestSet], config: Config) -> None:
        super().__init__(sets, config)
        self.tables = {self._split(test_set): test_set.table for test_set in sets}

    @cached_property
    def classes(self) -> list[Class]:
        """The classes of difficulty of the configured species' test pairs."""
        return classify_pairs(self.own)

    def asks(self) -> list[PairSet]:
        """Return the labelled test pairs of every species."""
        return [PairSet(name, each.proteins, each.pairs) for name, each in self.tables.items()]

    def coverage(self, predictions: Predictions) -> list[str]:
        """Return no notes, because `judge` reports pairs without a score."""
        return []

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        """Compute the metrics of each species' pairs, and of easy and difficult pairs."""
        rows: list[Row] = []
        notes: list[str] = []
        charts: dict[str, Chart] = {}
        for name, table in self.tables.items():
            scores, missing = scores_of_table(table, predictions, threshold)
            notes += explain_repeats(table, name)
            lowest = "; pairs without a score are ranked lowest, which affects auroc and auprc"
            for note in explain_missing(missing, len(scores), name):
                notes.append(note + lowest * (missing < len(scores)))
            every = ScoredPairs(table.pairs, table.labels, scores, threshold)
            rows += self._measure(name, table, every)
            if table is self.own.table:
                charts = chart_pairs(every, rows[0].metrics, self.own.species)
        cells: list[dict[str, Cell]] = [{"split": row.split, **row.metrics} for row in rows]
        repeated = {f"test_{kind}" for kind, chosen in self.classes if chosen.all()}
        shown = summarize_rankings([row for row in rows if row.split not in repeated])
        caption = explain_classes(self.own, self.classes)
        return TaskResult(
            tables={"evaluate.csv": Table(HEADER, cells)},
            documents=self._describe_intervals(rows),
            charts=charts,
            notes=notes,
            summary=[replace(shown, caption=caption), *summarize_calls(rows[:2], threshold)],
            compared={name: row.metrics[metric] for name, metric, row in self._compared(rows)},
            resampled={name: row.resampled[metric] for name, metric, row in self._compared(rows)},
        )

    def _split(self, test_set: TestSet) -> str:
        return "test" if test_set is self.own else f"test_{test_set.species}"

    def _measure(self, name: str, table: PairTable, every: ScoredPairs) -> Iterator[Row]:
        """Yield the metrics of one species: all pairs, pairs without self-pairs, and classes."""
        resamples = Resamples.draw(table, self.settings.intervals.resamples, self.seed)
        own = table is self.own.table
        yield self._measure_row(name, every, resamples)
        yield self._measure_row(
            f"{name}{WITHOUT_SELF_PAIRS}", every.select(~table.is_self), resamples
        )
        for kind, chosen in self.classes if own else ():
            # No warnings, because metrics of a small class may be undefined.
            yield self._measure_row(f"{name}_{kind}", every.select(chosen), resamples, warn=False)

    def _measure_row(
        self, split: str, scored: ScoredPairs, resamples: Resamples, warn: bool = True
    ) -> Row:
        names = self.settings.metrics
        metrics = measure_pairs(scored.scores, scored.labels, scored.threshold, names, warn)
        found = resamples.measure(scored)
        intervals = {name: Interval.of(found[name]) for name in metrics}
        return Row(split, scored.labels, metrics, intervals, found)

    def _compared(self, rows: Sequence[Row]) -> Iterator[tuple[str, str, Row]]:
        """Yield the name, metric and row of each ranking metric that serves to compare methods."""
        splits = {f"{name}{rest}" for name in self.tables for rest in ("", WITHOUT_SELF_PAIRS)}
        for row in rows:
            for metric in row.metrics:
                if row.split in splits and metric in RANKINGS:
                    yield f"{metric}{row.split.removeprefix('test')}", metric, row

    def _describe_intervals(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the content of `evaluate_intervals.json`, or {} if no intervals are requested."""
        count = self.settings.intervals.resamples
        described = {
            "level": LEVEL,
            "resampled": "proteins",
            "resamples": count,
            "seed": self.seed,
            "splits": {row.split: row.describe() for row in rows},
        }
        return {INTERVALS_FILE: described} if count else {}


@dataclass(frozen=True, eq=False)
class Row:
    """The metrics of a group of test pairs, with intervals.

    Attributes:
        split: The name of the group.
        labels: (N,) 0 or 1.
        metrics: The metrics by name; None if undefined.
        intervals: The intervals of the metrics by name; None if not computed.
        resampled: The metrics on every resample by name, (R,) each.
    """

    split: str
    labels: NDArray[np.int8]
    metrics: Metrics
    intervals: Mapping[str, Interval | None]
    resampled: Measured

    @property
    def prevalence(self) -> float | None:
        """The fraction of positive pairs, which is the AUPRC of random scores."""
        return float(self.labels.mean()) if len(self.labels) else None

    def describe(self) -> dict[str, Any]:
        """Return the metrics and intervals as an entry of `evaluate_intervals.json`."""
        return {
            "pairs": len(self.labels),
            "prevalence": self.prevalence,
            "metrics": {
                name: {"value": value} | (asdict(interval) if interval else {})
                for (name, value), interval in zip(
                    self.metrics.items(), self.intervals.values(), strict=True
                )
            },
        }

    def cell(self, metric: str) -> str | float | None:
        """Return a metric's value for the console, followed by the interval if it was computed."""
        value, interval = self.metrics[metric], self.intervals[metric]
        if value is None or interval is None:
            return value
        return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def summarize_rankings(rows: Sequence[Row]) -> Table:
    """Build the console table of ranking metrics, with a line for each group of pairs."""
    names = [name for name in RANKINGS if name in rows[0].metrics]
    cells: list[dict[str, Cell]] = [
        {
            "split": row.split,
            "pairs": len(row.labels),
            "prevalence": row.prevalence,
            **{name: row.cell(name) for name in names},
        }
        for row in rows
    ]
    return Table(("split", "pairs", "prevalence", *names), cells)


def summarize_calls(rows: Sequence[Row], threshold: float) -> list[Table]:
    """Build the console table of classification metrics, with a line for each metric.

    Returns:
        The table in a list; an empty list if no classification metric is requested.
    """
    title = f"threshold {threshold:.4g}"
    cells: list[dict[str, Cell]] = [
        {title: name, **{row.split: row.cell(name) for row in rows}}
        for name in rows[0].metrics
        if name not in RANKINGS
    ]
    return [Table((title, *(row.split for row in rows)), cells)] if cells else []


def explain_repeats(table: PairTable, name: str) -> list[str]:
    """Return notes about test pairs that are listed more than once, in either order."""
    left, right = table.pairs.T
    keys = pair_keys(left, right, len(table.proteins))
    first, number, lines = np.unique(keys, return_inverse=True, return_counts=True)
    positives = np.bincount(number, table.labels)
    both = (positives > 0) & (positives < lines)
    notes = []
    for chosen, how in ((both, "with both labels"), ((lines > 1) & ~both, "more than once")):
        if chosen.any():
            a, b = divmod(int(first[chosen][0]), len(table.proteins))
            example = f"{table.proteins[a]} {table.proteins[b]}"
            subject = count_of(int(chosen.sum()), f"pair of {name} is", f"pairs of {name} are")
            notes.append(
                f"{subject} listed {how} (such as {example}), and every line counts; correct the"
                " benchmark's file"
            )
    return notes


def scores_of_table(
    table: PairTable, predictions: Predictions, threshold: float
) -> tuple[NDArray[np.float64], int]:
    """Return the scores of a table's pairs, and the number of pairs without a predicted score.

    Pairs without a score get the lowest of three numbers: 0, the lowest score of the table's other
    pairs, and the number just below the threshold. Such pairs are never predicted to interact.
    """
    scores = predictions.scores_of(table.proteins, table.pairs)
    missing = np.isnan(scores)
    lowest = float(scores[~missing].min(initial=0.0))
    scores[missing] = min(lowest, float(np.nextafter(threshold, -np.inf)))
    # Clipping makes infinite scores finite, and keeps the ranking.
    return np.clip(scores, -HIGHEST, HIGHEST), int(missing.sum())


class PairMetrics(Metric):  # type: ignore[misc]  # the package has no types
    """Adapts `pair_metrics` to the metric interface of the Hugging Face library `evaluate`.

    Call `add_batch` as often as needed, then `compute(threshold=...)`, in a single process; all
    data stay in memory. The features are float64 in the library's default format, because its NumPy
    format would round scores to float32.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _build_data_dir(self) -> str:
        """Return an empty path, because the library would otherwise create an unused directory."""
        return ""

    def _info(self) -> object:
        features = datasets.Features(
            {"predictions": datasets.Value("float64"), "references": datasets.Value("int32")}
        )
        return MetricInfo(
            description="Ranking and classification metrics of protein pairs.",
            citation="",
            inputs_description="predictions: probabilities; references: labels, 0 or 1",
            features=features,
        )

    def _compute(
        self,
        predictions: ArrayLike,
        references: ArrayLike,
        threshold: float = 0.5,
        names: Sequence[str] = METRIC_NAMES,
        warn: bool = True,
    ) -> Metrics:
        return pair_metrics(predictions, references, threshold, names, warn=warn)


def measure_pairs(
    predictions: ArrayLike,
    references: ArrayLike,
    threshold: float,
    names: Sequence[str],
    warn: bool = True,
) -> Metrics:
    """Compute the metrics of all pairs with the Hugging Face metric `PairMetrics`."""
    metrics: Metrics = PairMetrics().compute(
        predictions=predictions, references=references, threshold=threshold, names=names, warn=warn
    )
    return metrics
