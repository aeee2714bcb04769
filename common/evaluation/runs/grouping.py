"""Group runs of evaluate.py by their test data, and describe each run in a table row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.console import entitle, fold, format_table
from common.csv_log import Cell, Table
from common.evaluation.runs.judged import JudgedRun, Side

HEADER = (
    "test_side", "run", "model", "seed", "data", "split", "language_model", "auroc", "auprc",
    "auroc_without_self_pairs", "graph_similarity", "relative_density", "threshold_mode", "commit",
    "date", "directory",
)  # fmt: skip
# The columns on the console; if all rows agree in a column of `SHARED`, the heading has the value.
SHOWN = ("run", "model", "seed", "auroc", "auprc", "auroc_without_self_pairs", "graph_similarity",
         "relative_density", "date")  # fmt: skip
SHARED = ("language_model", "threshold_mode", "commit")

Row = Mapping[str, Cell]


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that were evaluated on the same test data, so that their metrics can be compared.

    Attributes:
        side: The test data.
        runs: The runs, in the order in which they were found.
        rows: The rows of these runs in `compare.csv`.
    """

    side: Side
    runs: Sequence[JudgedRun]
    rows: Sequence[Row]

    def tabulate(self) -> Table:
        """Return a table of the most important columns; the caption has what all runs share."""
        rows = [_shorten(row) for row in self.rows]
        values = {name: {row[name] for row in rows} for name in SHARED}
        alike = {name: found.pop() for name, found in values.items() if len(found) == 1}
        shared = [f"{name.replace('_', ' ')} {value}" for name, value in alike.items() if value]
        columns = [*SHOWN[:-1], *(name for name in SHARED if name not in alike), SHOWN[-1]]
        return Table(columns, rows, "; ".join(shared))

    def format(self, number: int) -> str:
        """Format the group as a table with a heading for the console."""
        table = entitle(self.tabulate(), f"{number}. {self.side.heading()}")
        return "\n\n".join(map(format_table, fold(table)))


def group_runs(runs: Sequence[JudgedRun]) -> list[Group]:
    """Group runs by their test data, in the order of each group's first run."""
    groups: list[list[JudgedRun]] = []
    for run in runs:
        for group in groups:
            if all(run.side.same(other.side) for other in group):
                group.append(run)
                break
        else:
            groups.append([run])
    labels = label_runs(runs)
    return [
        # Only runs that used the network recorded its digest, so prefer test data with a digest.
        Group(
            max((run.side for run in group), key=lambda side: side.network),
            group,
            [{"run": labels[run.directory], **_describe(run)} for run in group],
        )
        for group in groups
    ]


def label_runs(runs: Sequence[JudgedRun]) -> dict[Path, str]:
    """Label each run by its id or, if ids repeat, by the part of the path that differs."""
    paths = {run.directory: run.directory.resolve() for run in runs}
    if len({path.name for path in paths.values()}) == len(paths):
        return {folder: path.name for folder, path in paths.items()}
    above = os.path.commonpath(paths.values())
    parts = {folder: path.relative_to(above).parts for folder, path in paths.items()}
    return {
        folder: "/".join(part for part in own if part not in ("logs", "evaluate"))
        for folder, own in parts.items()
    }


def _describe(run: JudgedRun) -> dict[str, Cell]:
    settings = run.config.data.benchmark
    test, plain = (run.metrics.get(name, {}) for name in ("test", "test_without_self_pairs"))
    return {
        "model": run.model,
        "seed": run.seed,
        "data": f"{settings.name} {settings.species}",
        "split": settings.split_strategy,
        "language_model": run.language_model,
        "auroc": test.get("auroc"),
        "auprc": test.get("auprc"),
        "auroc_without_self_pairs": plain.get("auroc"),
        "graph_similarity": run.topology.get("graph_sim"),
        "relative_density": run.topology.get("relative_density"),
        "threshold_mode": run.mode,
        "commit": run.events.get("pipeline_bootstrap", {}).get("commit"),
        "date": run.started,
        "directory": str(run.directory),
    }


def _shorten(row: Row) -> dict[str, Cell]:
    """Shorten the language model to its name and the date to minutes, for the console."""
    named = str(row["language_model"]).rpartition("/")[2] if row["language_model"] else None
    return {**row, "language_model": named, "date": str(row["date"])[:16] or None}
