"""Write results as CSV, JSON and PNG files, and format result tables for the console."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.csv_log import Table, write_records
from common.evaluation.tasks.base import TaskResult
from common.files import write_atomically
from common.plotting import save_chart

UNDEFINED = "-"


def write_results(
    results: Mapping[str, TaskResult], directory: Path, subject: str = ""
) -> Iterator[Path]:
    """Write every task's tables, metrics and plots; yield the paths of the CSV and JSON files.

    Args:
        results: The results by task.
        directory: The folder for the files.
        subject: The name of the evaluated predictions, for the plots' titles.
    """
    for result in results.values():
        for name, table in result.tables.items():
            write_records(directory / name, table.header, table.rows)
            yield directory / name
    metrics = {task: result.metrics for task, result in results.items() if result.metrics}
    if metrics:
        write_atomically(directory / "functional.json", json.dumps(metrics, indent=1) + "\n")
        yield directory / "functional.json"
    for result in results.values():
        for name, document in result.documents.items():
            write_atomically(directory / name, json.dumps(document, indent=1) + "\n")
            yield directory / name
    charts = {name: chart for result in results.values() for name, chart in result.charts.items()}
    for name, chart in charts.items():
        save_chart(chart, subject, directory / name)


def format_results(results: Mapping[str, TaskResult], subject: str = "") -> str:
    """Format the summary tables of all tasks for the console."""
    tables = [table for item in results.items() for table in summary_tables(*item)]
    return "\n\n".join(format_table(entitle(table, subject)) for table in tables)


def entitle(table: Table, subject: str) -> Table:
    """Put the name of the evaluated predictions before a table's caption."""
    caption = ": ".join(part for part in (subject, table.caption) if part)
    return replace(table, caption=caption)


def summary_tables(task: str, result: TaskResult) -> Sequence[Table]:
    """Return a task's summary tables, or a table of the task's metrics if there are none."""
    return result.summary or [_metrics_table(task, result.metrics)]


def _metrics_table(task: str, metrics: Mapping[str, Any]) -> Table:
    """Build a table with one row that contains all numeric metrics of a task."""
    row: dict[str, Any] = {
        "task": task,
        **{k: v for k, v in metrics.items() if not isinstance(v, str)},
    }
    return Table(tuple(row), [row])


def format_table(table: Table) -> str:
    """Format a table as text: aligned columns, floats with four decimals, and a dash for None."""
    cells = [list(table.header)]
    cells += [[format_cell(row.get(name)) for name in table.header] for row in table.rows]
    widths = _widths(table)
    lines = ([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for first, *rest in cells)
    text = ["  ".join(line).rstrip() for line in lines]
    return "\n".join([table.caption, *text] if table.caption else text)


def fold(table: Table, width: int) -> list[Table]:
    """Split a wide table into tables of at most `width` characters, each with the first column."""
    first, *widths = _widths(table)
    groups: list[list[str]] = [[]]
    used = first
    for name, needed in zip(table.header[1:], widths, strict=True):
        if groups[-1] and used + 2 + needed > width:
            groups.append([])
            used = first
        groups[-1].append(name)
        used += 2 + needed
    headers = [(table.header[0], *group) for group in groups]
    captions = [table.caption, *([""] * (len(groups) - 1))]
    return [
        Table(header, [{name: row.get(name) for name in header} for row in table.rows], caption)
        for header, caption in zip(headers, captions, strict=True)
    ]


def _widths(table: Table) -> list[int]:
    """Compute the width of each column in characters."""
    return [
        max(len(name), *(len(format_cell(row.get(name))) for row in table.rows))
        for name in table.header
    ]


def format_cell(value: object) -> str:
    """Format the value of a cell: floats with four decimals, None as a dash."""
    if value is None:
        return UNDEFINED
    return f"{value:.4f}" if isinstance(value, float) else str(value)
