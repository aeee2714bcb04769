"""Lock files on file systems without locks, such as Lustre without its mount option `flock`.

There, `filelock` uses the existence of a file as the lock, and no other machine can see that the
process which made the file has died. So the holder of a lock keeps renewing the date of the file,
and a lock whose file has not been renewed for some time is abandoned. Only changes of the date are
considered, so the clocks of the machines may differ.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, SoftFileLock, Timeout

# Seconds between two renewals, and without a renewal until a lock is abandoned. A network file
# system may show a new date a minute late.
RENEW_SECONDS, SILENCE_SECONDS = 10.0, 120.0
ASK_SECONDS = 5.0  # between two looks at a lock that is waited for


def renew(lock: BaseFileLock) -> Callable[[], None]:
    """Renew a held lock until the returned function is called; do nothing if the kernel locks."""
    ended, file = threading.Event(), lock.lock_file

    def renew_forever() -> None:
        while not ended.wait(RENEW_SECONDS):
            with suppress(OSError):
                os.utime(file)

    if isinstance(lock, SoftFileLock):
        threading.Thread(target=renew_forever, name="lock renewal", daemon=True).start()
    return ended.set


class LockWatch:
    """Finds abandoned locks among those that a process waits for."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def is_abandoned(self, lock: BaseFileLock) -> bool:
        """Return whether this watch has seen no renewal of a lock during the time limit."""
        if not isinstance(lock, SoftFileLock):
            return False
        now = time.monotonic()
        with suppress(FileNotFoundError):
            renewed = Path(lock.lock_file).stat().st_mtime_ns
            before, since = self._seen.get(lock.lock_file, (None, now))
            if renewed == before:
                return now - since > SILENCE_SECONDS
            self._seen[lock.lock_file] = renewed, now
        return False

    def remove_abandoned(self, lock: BaseFileLock) -> None:
        """Remove the file of a lock that this watch has found abandoned.

        Several processes may find the same lock abandoned. To remove a file with a certain date,
        each of them needs a second lock that is named after this date. So a process that comes late
        sees another date, and does not remove the file of the next holder.
        """
        file, renewed = Path(lock.lock_file), self._seen[lock.lock_file][0]
        removal = SoftFileLock(f"{file}.{renewed}")
        try:
            with removal.acquire(blocking=False), suppress(FileNotFoundError):
                if file.stat().st_mtime_ns == renewed:
                    file.unlink()
        except Timeout:
            if self.is_abandoned(removal):
                Path(removal.lock_file).unlink(missing_ok=True)


def acquire(lock: BaseFileLock, patience: float = math.inf) -> None:
    """Acquire a lock, also if its holder has died.

    Raises:
        Timeout: The lock has been held for longer than `patience`, in seconds.
    """
    watch, began = LockWatch(), time.monotonic()
    while not lock.is_locked:
        try:
            lock.acquire(timeout=min(patience, ASK_SECONDS))
        except Timeout:
            if watch.is_abandoned(lock):
                watch.remove_abandoned(lock)
            elif time.monotonic() - began >= patience:
                raise
