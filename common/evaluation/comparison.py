"""Compare predictions with baselines on the same pairs, tasks and metrics, in one table.

A metric is hard to interpret without a comparison: a baseline that only predicts self-pairs, or
that only uses the composition of both sequences, may reach the same value. Baselines have no
validation pairs from which to choose a threshold. Instead, each baseline predicts as many
interactions as the evaluated predictions contain, namely the pairs with the baseline's highest
scores. This choice uses no test labels.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from common.console import fold
from common.csv_log import Cell, Table
from common.evaluation.baselines.base import BaselineLeftOutError, predict_baseline
from common.evaluation.calibration_report import report_calibration
from common.evaluation.intervals import Interval
from common.evaluation.judging import Judgement, judge, used_pairs
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.scored import Scored
from common.evaluation.tasks.base import TaskResult
from common.evaluation.tasks.pairs import INTERVALS_FILE
from common.evaluation.test_side import TestSide
from common.long_work import LongWork
from common.run import LOGGER, Run

CAPTION = "Each baseline predicts as many interactions as the {}, or fewer if scores are equal."


@dataclass(frozen=True)
class Method:
    """A row of the comparison: a model or a baseline with its results on all tasks.

    Attributes:
        name: The name of the model or baseline in the table.
        called: The number of predicted interactions among the pairs that tasks use.
        results: The results by task.
    """

    name: str
    called: int
    results: Mapping[str, TaskResult]

    def compared(self) -> dict[str, float | None]:
        """Return the metrics of all tasks that serve to compare methods."""
        results = self.results.values()
        return {name: value for result in results for name, value in result.compared.items()}

    def subtract(self, other: Method) -> dict[str, dict[str, Any]]:
        """Compute the differences from another method's metrics, with intervals."""
        found: dict[str, dict[str, Any]] = {}
        for task, result in self.results.items():
            others = other.results[task]
            for name, values in result.resampled.items():
                mine, theirs = result.compared[name], others.compared[name]
                interval = Interval.of(values - others.resampled[name])
                if mine is not None and theirs is not None and interval is not None:
                    found[name] = {"value": mine - theirs, **asdict(interval)}
        return found


def judge_beside_baselines(
    run: Run, side: TestSide, scored: Scored, others: Mapping[str, Predictions]
) -> Judgement:
    """Evaluate predictions and all baselines that `evaluate.baselines` names.

    With any baseline, the results also contain `baselines` (`baselines.csv` and a console table),
    and `evaluate_intervals.json`, if it is written, also contains the differences between the
    predictions and each baseline.

    Args:
        run: The evaluation run.
        side: The test data and tasks.
        scored: The predictions to evaluate.
        others: Predictions of further models to compare with, by name.
    """
    predictions, threshold = scored.predictions, scored.threshold
    judgement = judge(side, predictions, threshold.value, threshold.mode)
    judgement.validation = scored.validation
    judgement.calibration = report_calibration(side, predictions, scored.calibration)
    names = dict.fromkeys((*others, *run.config.evaluate.baselines))
    if names:
        wanted = {name: others.get(name) for name in names}
        methods = list(_judge_all(run, side, scored, judgement, wanted))
        judgement.baselines = {each.name: each.compared().get("auroc") for each in methods[1:]}
        compared = {"baselines": _compare(methods)}
        judgement.results = {**_chart_together(methods), **compared}
    judgement.notes += scored.notes
    return judgement


def _judge_all(
    run: Run,
    side: TestSide,
    scored: Scored,
    judgement: Judgement,
    baselines: Mapping[str, Predictions | None],
) -> Iterator[Method]:
    """Yield the results of the evaluated predictions, then of each baseline that can be run.

    Args:
        run: The evaluation run.
        side: The test data and tasks.
        scored: The evaluated predictions.
        judgement: The results of the evaluated predictions, to which notes on baselines that are
            left out are added.
        baselines: The predictions of each baseline by name; None for predictions to compute.
    """
    scores = scored.predictions.scores[used_pairs(side, scored.predictions)]
    called = int((scores >= scored.threshold.value).sum())
    yield Method(scored.name, called, judgement.results)
    with LongWork("baselines", total=len(baselines), unit="baselines") as work:
        for name, known in baselines.items():
            started = time.monotonic()
            try:
                found = known or predict_baseline(name, side, run.config.run.seed)
            except BaselineLeftOutError as error:
                judgement.notes.append(f"the baseline {name} is left out: {error}")
            else:
                yield _judge(name, side, found, called)
                run.event("baseline_judged", baseline=name, seconds=time.monotonic() - started)
            work.advance()


def _chart_together(methods: Sequence[Method]) -> dict[str, TaskResult]:
    """Return the first method's results, adding the other methods' curves to the charts."""
    first, *others = methods
    results = {}
    for task, result in first.results.items():
        charts = {
            file: chart.beside(
                first.name,
                {
                    other.name: other.results[task].charts[file]
                    for other in others
                    if file in other.results[task].charts
                },
            )
            for file, chart in result.charts.items()
        }
        results[task] = replace(result, charts=charts)
    return results


def _judge(name: str, side: TestSide, predictions: Predictions, count: int) -> Method:
    threshold = match_calls(predictions.scores, count)
    called = int((predictions.scores >= threshold).sum())
    with _without_warnings():
        return Method(name, called, judge(side, predictions, threshold).results)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress logged warnings, because a baseline's undefined metrics do not concern the model."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def match_calls(scores: FloatArray, count: int) -> float:
    """Find the lowest threshold that at most `count` scores reach.

    Pairs with equal scores are either all predicted to interact, or none of them. A baseline that
    gives all pairs the same score therefore predicts no interactions, unless `count` is at least
    the number of pairs.
    """
    if count >= len(scores):
        return float(scores.min(initial=0.0))
    return float(np.nextafter(np.sort(scores)[::-1][count], np.inf))


def _compare(methods: Sequence[Method]) -> TaskResult:
    """Build the table of all methods, and add their differences to the first method's intervals."""
    first = methods[0]
    rows: list[dict[str, Cell]] = [
        {"method": method.name, "pairs_called": method.called, **method.compared()}
        for method in methods
    ]
    table = Table(_header(rows), rows, CAPTION.format(first.name))
    differences = {method.name: first.subtract(method) for method in methods[1:]}
    for result in first.results.values():
        if INTERVALS_FILE in result.documents:
            result.documents[INTERVALS_FILE]["differences"] = differences
    shown = [*fold(table), *_show_differences(first.name, differences)]
    return TaskResult(tables={"baselines.csv": table}, summary=shown)


def _show_differences(
    first: str, differences: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[Table]:
    rows: list[dict[str, Cell]] = [
        {f"{first} minus": name, **{metric: _show(found) for metric, found in metrics.items()}}
        for name, metrics in differences.items()
        if metrics
    ]
    return fold(Table(_header(rows), rows)) if rows else []


def _header(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
    """List the columns of all rows, in the order of their first occurrence."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _show(found: Mapping[str, Any]) -> str:
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
