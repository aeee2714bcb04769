"""Processes that would write the same directory take turns, so that only the first one does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from common.files import explain_disk_errors
from common.run import LOGGER, format_event


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Wait for the turn to write a directory, and hold it.

    The lock is a hidden file beside the directory, also on file systems that machines share. The
    system frees it however the process ends.

    Raises:
        UserError: The parent directory cannot be created or written.
    """
    path = directory.absolute().with_name(f".{directory.absolute().name}.lock")
    lock = FileLock(path)
    with explain_disk_errors(directory):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            LOGGER.info(
                format_event("benchmark_waiting", reason=f"another process is writing {directory}")
            )
            lock.acquire()
    try:
        yield
    finally:
        # A process that waits for the deleted file, or makes a new one, finds the work done.
        path.unlink(missing_ok=True)
        lock.release()
