"""What is judged beside baselines: the same pairs, tasks and metrics, in one table.

A score without a comparison means little: self-pairs alone, or the composition of both sequences,
may reach it. Baselines have no validation and so no threshold of their own; each calls as many
pairs as what is judged does, those that it ranks highest. No label of the test is used for that.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from common.csv_log import Cell
from common.evaluation.baselines.base import predict_baseline
from common.evaluation.baselines.training import NoTrainingPairsError
from common.evaluation.intervals import Interval
from common.evaluation.judging import Judgement, judge, used_pairs
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.results import fold
from common.evaluation.tasks.base import Table, TaskResult
from common.evaluation.tasks.pairs import INTERVALS_FILE
from common.evaluation.test_side import TestSide
from common.long_work import LongWork
from common.run import LOGGER, Run

CAPTION = "Baselines call as many pairs as the {}, by rank; of pairs with one score, all or none."
WIDTH = 110  # of the console


@dataclass(frozen=True, eq=False)
class Scored:
    """What is judged.

    Attributes:
        name: What the table calls it.
        predictions: Its scores.
        threshold: From which on they are calls.
        mode: The threshold mode that chose it.
    """

    name: str
    predictions: Predictions
    threshold: float
    mode: str = "fixed"


@dataclass(frozen=True)
class Method:
    """One row of the comparison: a model or baseline, judged on all tasks.

    Attributes:
        name: What the table calls it.
        called: How many of the pairs that tasks look at are called interactions.
        results: By task.
    """

    name: str
    called: int
    results: Mapping[str, TaskResult]

    def compared(self) -> dict[str, float | None]:
        """The metrics of all tasks by which methods are compared."""
        results = self.results.values()
        return {name: value for result in results for name, value in result.compared.items()}

    def subtract(self, other: Method) -> dict[str, dict[str, Any]]:
        """This method's metrics minus the other's, with the interval on the same resamples."""
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
    """Judge predictions, and beside them the baselines that `evaluate.baselines` names.

    With any of these the judgement has the further result `baselines`: `baselines.csv` and the
    table for the console. Its `evaluate_intervals.json`, if there is one, gets the differences to
    each baseline.

    Args:
        run: The stage.
        side: The test side.
        scored: What is judged.
        others: Further predictions to compare with, by their names.
    """
    judgement = judge(side, scored.predictions, scored.threshold, scored.mode)
    names = tuple(dict.fromkeys((*others, *run.config.evaluate.baselines)))
    if not names:
        return judgement
    scores = scored.predictions.scores[used_pairs(side, scored.predictions)]
    called = int((scores >= scored.threshold).sum())
    methods = [Method(scored.name, called, judgement.results)]
    with LongWork("baselines", total=len(names), unit="baselines") as work:
        for name in names:
            started = time.monotonic()
            try:
                found = others.get(name) or predict_baseline(name, side, run.config.run.seed)
            except NoTrainingPairsError as error:
                judgement.notes.append(f"the baseline {name} is left out: {error}")
            else:
                methods.append(_judge(name, side, found, called))
                run.event("baseline_judged", baseline=name, seconds=time.monotonic() - started)
            work.advance()
    judgement.baselines = {each.name: each.compared().get("auroc") for each in methods[1:]}
    judgement.results = {**judgement.results, "baselines": _compare(methods)}
    return judgement


def _judge(name: str, side: TestSide, predictions: Predictions, count: int) -> Method:
    threshold = match_calls(predictions.scores, count)
    called = int((predictions.scores >= threshold).sum())
    with _without_warnings():
        return Method(name, called, judge(side, predictions, threshold).results)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Metrics that a baseline leaves undefined are no reason for a warning about the model's."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def match_calls(scores: FloatArray, count: int) -> float:
    """The threshold from which on the `count` highest scores are called.

    Of equal scores all or none are called, and never more than `count` in all: a baseline that
    gives one score to all pairs calls none, unless all pairs are to be called.
    """
    if count >= len(scores):
        return float(scores.min(initial=0.0))
    return float(np.nextafter(np.sort(scores)[::-1][count], np.inf))


def _compare(methods: Sequence[Method]) -> TaskResult:
    """The table of all methods; the differences also go to the first one's intervals."""
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
    shown = [*fold(table, WIDTH), *_show_differences(first.name, differences)]
    return TaskResult(tables={"baselines.csv": table}, summary=shown)


def _show_differences(
    first: str, differences: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[Table]:
    rows: list[dict[str, Cell]] = [
        {f"{first} minus": name, **{metric: _show(found) for metric, found in metrics.items()}}
        for name, metrics in differences.items()
        if metrics
    ]
    return fold(Table(_header(rows), rows), WIDTH) if rows else []


def _header(rows: Sequence[Mapping[str, Cell]]) -> tuple[str, ...]:
    """The columns of all rows, in the order of their first occurrence."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def _show(found: Mapping[str, Any]) -> str:
    return f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
