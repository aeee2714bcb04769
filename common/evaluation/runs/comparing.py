"""Compare runs of evaluate.py in tables, one for each test data set, as text, CSV and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.console import list_places
from common.csv_log import write_records
from common.errors import UserError
from common.evaluation.runs.grouping import HEADER, Group, group_runs
from common.evaluation.runs.judged import JudgedRun, find_runs, read_run
from common.evaluation.runs.page import write_page

FILE, PAGE = "compare.csv", "compare.html"


def compare_runs(places: Sequence[Path], output: Path | None) -> list[str]:
    """Compare runs, write `compare.csv` and `compare.html`, and return paragraphs to print.

    Args:
        places: Folders of runs, or folders that contain such folders.
        output: The CSV file to write or a folder for this file, by default the current directory.
            The HTML file is written to the same folder.

    Raises:
        UserError: A folder has no runs, no run can be read, or the file cannot be written.
    """
    path = _choose_output(output)
    runs, left_out = _read_all(list(find_runs(places)))
    groups = group_runs(runs)
    tables = [group.format(number) for number, group in enumerate(groups, 1)]
    rows = [
        {"test_side": number, **row} for number, group in enumerate(groups, 1) for row in group.rows
    ]
    warning = explain_groups(groups)
    notes = [f"Left out: {reason}." for reason in left_out]
    page = path.with_suffix(Path(PAGE).suffix)
    where = list_places({"Table": _announce(path), "Report": _announce(page)})
    write_records(path, HEADER, rows)
    write_page(page, groups, [*warning, *notes])
    return [*warning, *tables, *notes, where]


def explain_groups(groups: Sequence[Group]) -> list[str]:
    """Return a warning if the runs were evaluated on different test data."""
    if len(groups) < 2:
        return []
    warning = (
        f"These runs were evaluated on {len(groups)} different test data sets; metrics in different"
        " tables cannot be compared."
    )
    if len({group.side.heading() for group in groups}) < len(groups):
        warning += " Test data of the same name differ in the content of their files."
    return [warning]


def _read_all(folders: Sequence[Path]) -> tuple[list[JudgedRun], list[str]]:
    """Return all readable runs, and a sentence about each run that cannot be read."""
    runs, reasons = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UserError as error:
            reasons.append(str(error))
    if not runs:
        raise UserError(f"none of the runs can be compared: {'; '.join(reasons)}")
    return runs, reasons


def _choose_output(output: Path | None) -> Path:
    path = output or Path()
    path = path / FILE if path.is_dir() else path
    if path.suffix != ".csv" or not path.parent.is_dir():
        raise UserError(
            f"--output {path} must be an existing folder, or a .csv file in an existing folder"
        )
    return path


def _announce(path: Path) -> str:
    return f"{path} (an older file was replaced)" if path.exists() else str(path)
