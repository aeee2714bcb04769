"""Processes that would write the same directory take turns, so that only the first one does.

A process can also hold a file, so that no other one replaces what it reads.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from common.files import explain_disk_errors
from common.run import LOGGER, format_event

_HELD: dict[Path, IO[bytes]] = {}


def hold(file: Path) -> None:
    """Let other processes know, until this one ends, that it reads what belongs to a file."""
    _release(file)
    opened = file.open("rb")
    with suppress(OSError):  # The file system has no locks.
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    _HELD[file.absolute()] = opened


def is_held_elsewhere(file: Path) -> bool:
    """Whether another process holds a file; this one gives it up."""
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
