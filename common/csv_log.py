"""Write the CSV files of a run, whose headers users' scripts rely on.

Numbers are written so that reading them gives the same float; a value that is undefined or was not
requested is an empty cell. Every file is written as a whole, so a resumed run that rewrites it can
neither repeat nor lose a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.files import write_atomically

Cell = str | int | float | None

TRAINING_CSV = "training_step.csv"


@dataclass(frozen=True)
class Table:
    """A table: column names, and rows that map column names to cells; missing cells are empty."""

    header: Sequence[str]
    rows: Sequence[Mapping[str, Cell]]
    caption: str = ""  # a sentence above the table on the console


@dataclass(frozen=True)
class EpochRow:
    """The results of one epoch, which become a row of `training_step.csv`.

    The state from which a run is resumed contains them as well.

    Attributes:
        epoch: Counted from 1.
        seconds: Wall time of the epoch, validation included.
        train_loss: Mean over the epoch's training pairs.
        val_loss: Mean over the validation pairs.
        val_metrics: Metrics by name (`auroc`); None where undefined.
        learning_rate: The learning rate of the epoch's last update.
        pairs_per_second: The number of training pairs per second over all processes.
        sets: The epoch's rows of `validation.csv`; empty if there is only one set of pairs.
    """

    epoch: int
    seconds: float
    train_loss: float
    val_loss: float
    val_metrics: Mapping[str, float | None]
    learning_rate: float
    sets: list[dict[str, Cell]] = field(default_factory=list)
    pairs_per_second: float | None = None


def training_header(metrics: Sequence[str]) -> list[str]:
    """Return the column names of `training_step.csv`, given the configured validation metrics."""
    columns = [f"Val {name}" for name in metrics]
    return ["Epoch", "Epoch Time", "Train Loss", "Val Loss", *columns, "Learning Rate"]


def write_training_csv(path: str | Path, rows: Sequence[EpochRow], metrics: Sequence[str]) -> None:
    """Write the results of all epochs so far to `training_step.csv`.

    Args:
        path: The file.
        rows: All epochs so far, in order.
        metrics: The `validation_metrics`; the cell of an undefined metric stays empty.
    """
    write_records(path, training_header(metrics), [epoch_cells(row, metrics) for row in rows])


def epoch_cells(row: EpochRow, metrics: Sequence[str]) -> dict[str, float | None]:
    """Map the column names of `training_step.csv` to an epoch's results."""
    values = [row.val_metrics.get(name) for name in metrics]
    losses = (row.train_loss, row.val_loss)
    cells = (row.epoch, row.seconds, *losses, *values, row.learning_rate)
    return dict(zip(training_header(metrics), cells, strict=True))


def read_training_csv(path: str | Path) -> tuple[list[EpochRow], list[str]]:
    """Read the epochs and the names of their metrics from a `training_step.csv`."""
    with Path(path).open(newline="") as file:
        records = list(csv.DictReader(file))
    metrics = [name.removeprefix("Val ") for name in (records[0] if records else {})][4:-1]
    rows = []
    for record in records:
        epoch, seconds, train_loss, val_loss, *values, lr = record.values()
        found = {
            name: float(value) if value else None
            for name, value in zip(metrics, values, strict=True)
        }
        losses = float(train_loss), float(val_loss)
        rows.append(EpochRow(int(epoch), float(seconds), *losses, found, float(lr)))
    return rows, metrics


def write_validation_csv(
    path: str | Path, rows: Sequence[EpochRow], metrics: Sequence[str]
) -> None:
    """Write one row per epoch and set of validation pairs to `validation.csv`, if there are sets.

    Args:
        path: The file.
        rows: All epochs so far, in order.
        metrics: The `validation_metrics`.
    """
    header = ("epoch", "set", "pairs", "loss", *metrics)
    records = [{name: record.get(name) for name in header} for row in rows for record in row.sets]
    if records:
        write_records(path, header, records)


def write_records(
    path: str | Path, header: Sequence[str], records: Iterable[Mapping[str, Cell]]
) -> None:
    """Write a CSV file from records that map column names to cells; missing cells stay empty.

    Raises:
        ValueError: A record has a cell without a column.
        UserError: The file cannot be written; an existing file is left unchanged.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for record in records:
        unknown = sorted(set(record) - set(header))
        if unknown:
            raise ValueError(f"{Path(path).name} has no column {', '.join(unknown)}")
        writer.writerow([_plain(record.get(column)) for column in header])
    write_atomically(path, text.getvalue())


def _plain(cell: Cell) -> Cell:
    """Convert a NumPy number to a Python number, which is written with all its digits."""
    item: Callable[[], Cell] = getattr(cell, "item", lambda: cell)
    return item()
