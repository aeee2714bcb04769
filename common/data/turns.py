"""Processes that would write the same directory take turns, so that only the first one does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.files import explain_disk_errors
from common.run import LOGGER, format_event


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Wait for the turn to write a directory, and hold it.

    The lock is on the parent directory, which is created if need be: it leaves no file behind, and
    the system frees it however the process ends. On a file system without such locks nobody waits.

    Raises:
        UserError: The parent directory cannot be created or opened.
    """
    parent = directory.absolute().parent
    with explain_disk_errors(directory):
        parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOGGER.info(
                format_event("benchmark_waiting", reason=f"another process is writing in {parent}")
            )
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(handle)
