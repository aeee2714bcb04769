"""The report's sections on tasks, which are built in the same way for every task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from common.csv_log import Cell, Table
from common.evaluation.report.blocks import (
    Block,
    Drawings,
    Judged,
    Numbers,
    Section,
    identifier,
)
from common.evaluation.tasks.base import Task, TaskResult


def show_pair_tasks(judged: Judged) -> Iterator[Section]:
    """Yield a section for each task that needs no functional data."""
    return _show(judged, [task for task in judged.side.tasks.values() if not task.files])


def show_functional_tasks(judged: Judged) -> Iterator[Section]:
    """Yield a section for each task that needs functional data."""
    return _show(judged, [task for task in judged.side.tasks.values() if task.files])


def _show(judged: Judged, tasks: Sequence[Task]) -> Iterator[Section]:
    shown = set(_charts_before(judged, tasks))
    for task in tasks:
        result = judged.judgement.results[task.name]
        yield Section(
            task.title or task.name.replace("_", " ").capitalize(),
            list(_blocks(task.name, result, shown)),
            task.question,
        )
        shown |= result.charts.keys()


def _charts_before(judged: Judged, tasks: Sequence[Task]) -> Iterator[str]:
    """Yield the names of charts in earlier sections, because tasks can have the same chart."""
    if any(task.files for task in tasks):
        for task in judged.side.tasks.values():
            if not task.files:
                yield from judged.judgement.results[task.name].charts


def _blocks(task: str, result: TaskResult, shown: Collection[str]) -> Iterator[Block]:
    charts = {file: chart for file, chart in result.charts.items() if file not in shown}
    if charts:
        yield Drawings(charts)
    if result.metrics:
        rows: list[dict[str, Cell]] = [
            {"metric": name, "value": value} for name, value in result.metrics.items()
        ]
        yield Numbers(Table(("metric", "value"), rows), task)
    for place, table in enumerate(result.summary):
        yield Numbers(table, f"{task}_{place + 1}")
    for file, table in result.tables.items():
        yield Numbers(table, identifier(file.removesuffix(".csv")), file)
