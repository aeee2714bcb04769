"""File locks with which processes write a directory in turn, so that only the first writes it.

A process can also hold a file, so that no other process replaces the data while they are read.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from common.data.lock_renewal import acquire, renew
from common.files import explain_disk_errors
from common.run import LOGGER, format_event

_HELD: dict[Path, IO[bytes]] = {}


def hold(file: Path) -> None:
    """Mark a file as in use until this process ends, so that no other process replaces it."""
    _release(file)
    opened = file.open("rb")
    with suppress(OSError):  # The file system does not support locks.
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    _HELD[file.absolute()] = opened


def is_held_elsewhere(file: Path) -> bool:
    """Release this process's hold on a file, and return whether another process holds it."""
    _release(file)
    if not file.exists():
        return False
    with file.open("rb") as opened, suppress(OSError):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _release(file: Path) -> None:
    held = _HELD.pop(file.absolute(), None)
    if held is not None:
        held.close()


@contextmanager
def in_turn(directory: Path) -> Iterator[None]:
    """Wait until no other process writes the directory, then lock the directory for this process.

    The lock is a hidden file beside the directory and also works on shared file systems. The
    operating system releases the lock however the process ends.

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
            acquire(lock)
    stop_renewal = renew(lock)
    try:
        yield
    finally:
        stop_renewal()
        # Processes that wait for the deleted file, or create a new one, find the directory written.
        path.unlink(missing_ok=True)
        lock.release()
