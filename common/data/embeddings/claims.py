"""Claims say which sequences each of the runs that fill one store is computing.

A claim is a file of sequence hashes with a lock file, which its run keeps locked as long as it
lives. The claim of a run that ended without removing it is void: its lock is free. Claims are read
and changed under the store's lock only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from common.files import write_atomically


class Claim:
    """One run's claim; a context manager that removes it at the end.

    After an error the claim stays behind, void, so that the next run cleans up after this one.

    Args:
        directory: The store's directory; it need not exist yet.

    Attributes:
        owner: The run's random name, which is also in the names of its temporary files.
    """

    def __init__(self, directory: Path) -> None:
        self.owner = secrets.token_hex(8)
        self._file = directory / f".{self.owner}.lock"
        self._lock = FileLock(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if self._lock.is_locked:
            if error is None:
                _remove(self._file)
            self._lock.release()

    def replace(self, hashes: Iterable[str]) -> None:
        """Claim these sequences, and give up those claimed before.

        Raises:
            UserError: The directory may not be written.
        """
        if not self._lock.is_locked:
            self._lock.acquire(timeout=0)
        write_atomically(self._file.with_suffix(".claim"), "\n".join(hashes))

    def others(self) -> dict[str, set[str]]:
        """Return the sequences claimed by other living runs, by owner; remove void claims."""
        found = {}
        for lock in set(claim_locks(self._file.parent)) - {self._file}:
            try:
                with FileLock(lock, timeout=0):
                    _remove(lock)
            except Timeout:
                found[lock.stem[1:]] = _read(lock)
        return found


def claim_locks(directory: Path) -> list[Path]:
    """Return the lock files of the runs that are filling a store, or that left it unfinished."""
    return list(directory.glob(".*.lock"))


def _read(lock: Path) -> set[str]:
    # A run that has just finished has removed it.
    with suppress(FileNotFoundError):
        return set(lock.with_suffix(".claim").read_text().split())
    return set()


def _remove(lock: Path) -> None:
    lock.with_suffix(".claim").unlink(missing_ok=True)
    lock.unlink(missing_ok=True)
