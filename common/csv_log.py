"""The CSV files a run leaves: headers that users' scripts rely on, and whole-file writers.

Numbers are written so that reading gives back the same float; what is undefined or was not asked
for is an empty cell. Every file is written as a whole, so a resumed run that rewrites it from its
state can neither repeat nor lose a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.files import write_atomically

Cell = str | int | float | None


@dataclass(frozen=True)
class EpochRow:
    """What `training_step.csv` tells of one epoch; kept in the state that a run resumes from.

    Attributes:
        epoch: Counted from 1.
        seconds: Wall time of the epoch, validation included.
        train_loss: Mean over the epoch's training pairs.
        val_loss: Mean over the validation pairs.
        val_metrics: Figures by name (`auroc`); None where undefined.
        learning_rate: Of the epoch's last update.
    """

    epoch: int
    seconds: float
    train_loss: float
    val_loss: float
    val_metrics: Mapping[str, float | None]
    learning_rate: float

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values that JSON can hold."""
        return {
            "epoch": int(self.epoch),
            "seconds": float(self.seconds),
            "train_loss": float(self.train_loss),
            "val_loss": float(self.val_loss),
            "val_metrics": {
                name: None if value is None else float(value)
                for name, value in self.val_metrics.items()
            },
            "learning_rate": float(self.learning_rate),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> EpochRow:
        """The row that `to_dict` wrote."""
        return cls(**content)


def training_header(metrics: Sequence[str]) -> list[str]:
    """The columns of `training_step.csv` for these `validation_metrics`, in their order."""
    columns = [f"Val {name}" for name in metrics]
    return ["Epoch", "Epoch Time", "Train Loss", "Val Loss", *columns, "Learning Rate"]


def write_training_csv(path: str | Path, rows: Sequence[EpochRow], metrics: Sequence[str]) -> None:
    """Write `training_step.csv`.

    Args:
        path: The file.
        rows: All epochs so far, in order.
        metrics: The `validation_metrics`; one that is undefined for an epoch stays empty there.
    """
    write_csv(path, training_header(metrics), [_training_cells(row, metrics) for row in rows])


def _training_cells(row: EpochRow, metrics: Sequence[str]) -> list[Cell]:
    figures = [row.val_metrics.get(name) for name in metrics]
    return [row.epoch, row.seconds, row.train_loss, row.val_loss, *figures, row.learning_rate]


def write_records(
    path: str | Path, header: Sequence[str], records: Iterable[Mapping[str, Cell]]
) -> None:
    """Write a whole CSV file from cells by column name; those that a record lacks stay empty.

    Raises:
        ValueError: A cell has no column.
        UserError: The file cannot be written.
    """
    rows = []
    for record in records:
        unknown = sorted(set(record) - set(header))
        if unknown:
            raise ValueError(f"{Path(path).name} has no column {', '.join(unknown)}")
        rows.append([record.get(column) for column in header])
    write_csv(path, header, rows)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a whole CSV file, or leave an older one as it is.

    Args:
        path: The file.
        header: The column names.
        rows: Cells in the header's order; None becomes an empty cell.

    Raises:
        ValueError: A row has more or fewer cells than the header.
        UserError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under {len(header)} columns: {row}")
        writer.writerow([_format_cell(cell) for cell in row])
    write_atomically(path, text.getvalue())


def _format_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    # NumPy's scalars are numbers too, but their repr names their type.
    return repr(cell.item() if hasattr(cell, "item") else cell)
