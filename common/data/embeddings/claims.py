"""Files by which a run claims the sequences to embed, so that concurrent runs share the work.

A claim is a file of sequence hashes with a lock file, which the run keeps locked until the run
ends. A claim whose lock is free is void, because the run ended without removing the claim. Claims
are read and changed only under the lock of the store.

On a file system without locks, no other machine can see that a run has died. There, each run keeps
renewing the date of its lock file, and a claim is void if its file has not been renewed for some
minutes. Only changes of the date are considered, so the clocks of the machines may differ.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, SoftFileLock, Timeout

from common.files import write_atomically

# Seconds between two renewals of a lock file, and without a renewal until the claim is void.
RENEW_SECONDS, SILENCE_SECONDS = 10.0, 300.0


class Claim:
    """The claim of one run on sequences: a context manager that removes the claim at the end.

    After an error, the claim remains as a void claim, so that the next run cleans up.

    Args:
        directory: The directory of the store, which need not exist yet.

    Attributes:
        owner: A random name of the run, which is also part of the names of its temporary files.
    """

    def __init__(self, directory: Path) -> None:
        self.owner = secrets.token_hex(8)
        self._file = directory / f".{self.owner}.lock"
        self._lock = FileLock(self._file)
        self._ended = threading.Event()
        self._seen: dict[Path, tuple[int, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._ended.set()
        if self._lock.is_locked:
            if error is None:
                _remove(self._file)
            self._lock.release()

    def replace(self, hashes: Iterable[str]) -> None:
        """Replace this run's claim by a claim on these sequences.

        Raises:
            UserError: The directory may not be written.
        """
        if not self._lock.is_locked:
            self._lock.acquire(timeout=0)
            if isinstance(self._lock, SoftFileLock):
                threading.Thread(target=self._renew, name="claim", daemon=True).start()
        write_atomically(self._file.with_suffix(".claim"), "\n".join(hashes))

    def others(self) -> dict[str, set[str]]:
        """Remove claims of dead runs; return the sequences that active runs claim, by owner."""
        found = {}
        for lock in set(claim_locks(self._file.parent)) - {self._file}:
            attempt = FileLock(lock, timeout=0)
            try:
                with attempt:
                    _remove(lock)
            except Timeout:
                if isinstance(attempt, SoftFileLock) and self._is_silent(lock):
                    _remove(lock)
                else:
                    found[lock.stem[1:]] = _read(lock)
        return found

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with suppress(OSError):
                os.utime(self._file)

    def _is_silent(self, lock: Path) -> bool:
        """Return whether a lock file was not renewed during the time limit in which it was watched."""
        now = time.monotonic()
        with suppress(FileNotFoundError):
            renewed = lock.stat().st_mtime_ns
            before, since = self._seen.get(lock, (None, now))
            if renewed == before:
                return now - since > SILENCE_SECONDS
            self._seen[lock] = renewed, now
        return False


def claim_locks(directory: Path) -> list[Path]:
    """Return the lock files of all claims on a store, including claims of dead runs."""
    return list(directory.glob(".*.lock"))


def _read(lock: Path) -> set[str]:
    # A run that has just finished has removed its claim.
    with suppress(FileNotFoundError):
        return set(lock.with_suffix(".claim").read_text().split())
    return set()


def _remove(lock: Path) -> None:
    lock.with_suffix(".claim").unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
