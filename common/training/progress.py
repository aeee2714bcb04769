"""The progress of a training stage, which is saved for resuming the run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from common.csv_log import EpochRow


@dataclass(frozen=True)
class EpochPart:
    """The progress within an epoch that was paused between two updates.

    Attributes:
        rounds: The number of finished rounds.
        seconds: How long these rounds took.
        lr: The learning rate of the last of these rounds.
        sums: For each process, the sum of its pairs' weighted losses and of their weights.
    """

    rounds: int
    seconds: float
    lr: float
    sums: list[list[float]]


@dataclass
class Progress:
    """The progress of a stage: what a resumed run needs besides weights and random states.

    Attributes:
        epoch: The next epoch, counted from 0.
        rows: The CSV's rows of the finished epochs.
        best: The best monitored value so far, with its sign changed if lower is better.
        best_epoch: The epoch that reached this value, counted from 1.
        scheduler: The learning-rate schedule's own state.
        part: How much of the next epoch is done, if it was paused in the middle.
        data: A digest of the data that the stage trains and validates on.
    """

    epoch: int = 0
    rows: list[EpochRow] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    scheduler: dict[str, Any] = field(default_factory=dict)
    part: EpochPart | None = None
    data: str = ""

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Progress:
        """Restore progress from a dictionary that `asdict` made, ignoring other keys."""
        known = {name: content[name] for name in cls.__dataclass_fields__}
        known["rows"] = [EpochRow(**row) for row in known["rows"]]
        known["part"] = known["part"] and EpochPart(**known["part"])
        return cls(**known)

    def note_epoch(self, row: EpochRow, monitor: str) -> bool:
        """Add an epoch's row; return whether the epoch is the best so far."""
        self.rows.append(row)
        self.epoch, self.part = row.epoch, None
        value = _monitored(row, monitor)
        if value is None or (self.best is not None and value <= self.best):
            return False
        self.best, self.best_epoch = value, row.epoch
        return True

    def stalled(self, patience: int | None) -> bool:
        """Return whether the monitored metric has not improved for `patience` epochs."""
        return patience is not None and self.epoch - self.best_epoch >= patience


def _monitored(row: EpochRow, monitor: str) -> float | None:
    value = -row.val_loss if monitor == "loss" else row.val_metrics[monitor]
    return None if value is None or math.isnan(value) else value
