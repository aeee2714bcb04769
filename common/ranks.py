"""Coordinate a run's processes: run an action on rank 0 for all, and check for shared files.

This module does not import torch, so that work on files alone starts at once.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from common.errors import UserError
from common.files import explain_disk_errors, temporary_beside

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")


@dataclass(frozen=True)
class OneProcess:
    """A minimal accelerator for work on one process that does not need torch."""

    device: Any = "cpu"
    mixed_precision: str = "no"
    process_index: int = 0
    num_processes: int = 1
    is_main_process: bool = True
    is_local_main_process: bool = True

    def end_training(self) -> None:
        """Do nothing, because this class starts no experiment trackers."""


def on_main_process(accelerator: Accelerator | OneProcess, action: Callable[[], Result]) -> Result:
    """Run an action on rank 0; return its result, or raise its `UserError`, on all ranks."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = action()
        except UserError as error:
            outcome[1] = str(error)
    if accelerator.num_processes > 1:
        # Imported here, so that work on files alone starts seconds earlier, without torch.
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(outcome, from_process=0)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    result: Result = outcome[0]
    return result


def check_shared(accelerator: Accelerator | OneProcess, directory: Path, key: str) -> None:
    """Check that all ranks see a file that rank 0 writes; every process must call this.

    Args:
        accelerator: The processes.
        directory: A directory that exists on rank 0, which may write there.
        key: The configuration key that names it.

    Raises:
        UserError: A rank does not see a file that rank 0 has just written.
    """
    if accelerator.num_processes == 1:
        return
    # Imported here, so that work on files alone starts seconds earlier, without torch.
    from accelerate.utils import gather_object

    mark = on_main_process(accelerator, lambda: _leave_mark(directory))
    blind = gather_object([None if _appears(mark) else socket.gethostname()])
    on_main_process(accelerator, lambda: mark.unlink(missing_ok=True))
    for rank, host in enumerate(blind):
        if host is not None:
            raise UserError(
                f"rank {rank} on {host} does not see {directory}, where rank 0 writes; set {key} to"
                " a directory on a file system that all machines of the run share"
            )


def _leave_mark(directory: Path) -> Path:
    mark = temporary_beside(directory / "mark", secrets.token_hex(6)).absolute()
    with explain_disk_errors(mark):
        mark.touch()
    return mark


def _appears(path: Path) -> bool:
    """Return whether a file exists, waiting up to 5 seconds for a slow network file system."""
    for _ in range(50):
        if path.exists():
            return True
        time.sleep(0.1)
    return False
