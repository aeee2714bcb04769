"""How far a stage has come: what is best, when it stalls, and that JSON brings it back."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from common.csv_log import EpochRow
from common.training.progress import Progress


def row(epoch: int, auprc: float | None = 0.5, loss: float = 1.0) -> EpochRow:
    return EpochRow(epoch, 1.5, 0.7, loss, {"auprc": auprc, "auroc": 0.1}, 1e-4)


def run(values: list[float | None], patience: int | None = None) -> tuple[Progress, list[bool]]:
    """The progress after epochs with these figures, and which of them were the best so far."""
    progress = Progress()
    improved = []
    for value in values:
        if progress.stalled(patience):
            break
        improved.append(progress.note_epoch(row(progress.epoch + 1, value), "auprc"))
    return progress, improved


def test_only_a_higher_figure_is_better() -> None:
    progress, improved = run([0.5, 0.5, 0.6, 0.4])
    assert improved == [True, False, True, False]
    assert (progress.best, progress.best_epoch, progress.epoch) == (0.6, 3, 4)


def test_a_lower_loss_is_better() -> None:
    progress = Progress()
    losses = [1.0, 0.9, 0.95, math.nan, 0.8]
    improved = [
        progress.note_epoch(row(epoch, loss=loss), "loss") for epoch, loss in enumerate(losses, 1)
    ]
    assert improved == [True, True, False, False, True]
    assert progress.best == -0.8


def test_an_undefined_figure_is_never_the_best() -> None:
    """Neither None nor NaN, not even as the first."""
    progress, improved = run([None, math.nan, 0.1, None])
    assert improved == [False, False, True, False]
    assert progress.best_epoch == 3


def test_patience_counts_epochs_since_the_best() -> None:
    falling: list[float | None] = [0.5, 0.6, 0.5, 0.5, 0.5, 0.5]
    assert run(falling, patience=1)[0].epoch == 3
    assert run(falling, patience=2)[0].epoch == 4
    assert run(falling, patience=None)[0].epoch == 6
    assert run([0.1, 0.2, 0.3, 0.4], patience=1)[0].epoch == 4


def test_patience_ends_a_run_that_never_had_a_figure() -> None:
    assert run([None, None, None], patience=2)[0].epoch == 2


def test_json_brings_everything_back() -> None:
    progress, _ = run([0.1 + 0.2, None, 1 / 3])
    progress.scheduler = {"last_epoch": 3, "_last_lr": [1e-4 / 3]}
    content = json.loads(json.dumps({"processes": 2, **asdict(progress)}))
    again = Progress.from_dict(content)
    assert again == progress
    assert again.rows[1].val_metrics["auprc"] is None
    assert again.note_epoch(row(4, 0.2), "auprc") == progress.note_epoch(row(4, 0.2), "auprc")
