"""Files by which a run claims the sequences to embed, so that concurrent runs share the work.

A claim is a file of sequence hashes with a lock file, which the run keeps locked until the run
ends. A claim whose lock is free is void, because the run ended without removing the claim. Claims
are read and changed only under the lock of the store.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from common.data.lock_renewal import LockWatch, renew
from common.files import write_atomically


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
        self._stop_renewal: Callable[[], None] = lambda: None
        self._watch = LockWatch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._stop_renewal()
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
            self._stop_renewal = renew(self._lock)
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
                if self._watch.is_abandoned(attempt):
                    _remove(lock)
                else:
                    found[lock.stem[1:]] = _read(lock)
        return found


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
