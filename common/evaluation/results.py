"""Write results as CSV, JSON and PNG files, and format result tables for the console."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.console import entitle, format_table
from common.csv_log import Table, write_records
from common.evaluation.tasks.base import TaskResult
from common.files import write_atomically
from common.plotting import save_chart


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
