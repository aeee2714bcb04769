"""Experiment trackers such as TensorBoard, which receive each epoch's row of the CSV file.

`run_config.trackers` names the trackers; accelerate (`log_with`) runs them, on rank 0 only.
"""

from __future__ import annotations

import importlib.util

from common.config import Config
from common.csv_log import EpochRow, epoch_cells
from common.errors import UserError
from common.run import Run, on_main_process

PROJECT = "relic"


def check_trackers(config: Config) -> None:
    """Reject a tracker whose package is not installed, before any work starts.

    Raises:
        UserError: A package is missing. (accelerate would silently leave the tracker out.)
    """
    missing = [name for name in config.run.trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"run_config.trackers names {' and '.join(missing)}, which cannot be imported; run"
            f" `pip install {' '.join(missing)}`, or remove what is missing from the list"
        )


def start_trackers(run: Run, first_epoch: int) -> None:
    """Start the configured trackers for a new run, or continue them for a resumed run.

    Args:
        run: The run, which has begun. TensorBoard writes below its log directory.
        first_epoch: The epoch that starts now, counted from 1. TensorBoard hides its entries of
            this and later epochs, which the run's saved state does not include.

    Raises:
        UserError: A tracker cannot start, for example without a login.
    """
    names = run.config.run.trackers
    if not names:
        return
    accelerator = run.accelerator
    accelerator.project_configuration.logging_dir = str(run.log_dir)
    name = f"{run.config.model.model}-{run.stage}-{run.run_id}"
    settings = {
        "tensorboard": {"purge_step": first_epoch},
        "wandb": {
            "name": name,
            "id": name,
            "resume": "allow",
            "dir": str(run.log_dir),
            "config": run.config.model_dump(mode="json", by_alias=True),
        },
    }

    def start() -> None:
        try:
            accelerator.init_trackers(PROJECT, init_kwargs=settings)
        # Each tracker has different exceptions.
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"run_config.trackers: {', '.join(names)} cannot start: {reason}; correct the"
                " cause, or set run_config.trackers=[]"
            ) from None

    on_main_process(accelerator, start)


def track_epoch(run: Run, row: EpochRow) -> None:
    """Send an epoch's row to the trackers, under the names of the CSV file's columns."""
    if run.config.run.trackers:
        cells = epoch_cells(row, run.config.training.logging.validation_metrics)
        defined = {name: cell for name, cell in cells.items() if cell is not None}
        run.accelerator.log(defined, step=row.epoch)
