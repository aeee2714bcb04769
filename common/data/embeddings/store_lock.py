"""Locks an embedding cache while its files are committed or deleted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from common.data.lock_renewal import acquire, renew
from common.errors import UserError
from common.files import explain_disk_errors

LOCK_FILE = "build.lock"
REMEDY = "choose another data_config.embeddings.cache_dir"
# Errors of file systems that do not support locks, other than ENOSYS: for ENOSYS, filelock uses the
# existence of a file as the lock.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
# Far longer than a process needs the lock, but below the time limit of collective operations.
LOCK_SECONDS = 300.0


@contextmanager
def lock_store(directory: Path) -> Iterator[None]:
    """Lock an embedding store, to read its state, claim sequences or commit files.

    The lock must not be held while computing. The kernel releases the lock however the process
    ends.

    Raises:
        UserError: The directory may not be written, or another process keeps the lock.
    """
    lock = FileLock(directory / LOCK_FILE)
    with explain_disk_errors(lock.lock_file, remedy=REMEDY):
        _acquire(lock)
    stop_renewal = renew(lock)
    try:
        yield
    finally:
        stop_renewal()
        lock.release()


def _acquire(lock: BaseFileLock) -> None:
    try:
        acquire(lock, LOCK_SECONDS)
    except Timeout:
        raise UserError(
            f"{lock.lock_file} has been locked by another process for {LOCK_SECONDS:.0f} seconds"
            f" (normally milliseconds); end the other process if it is suspended, or {REMEDY}"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"the file system of {lock.lock_file} does not support file locks ({error.strerror}),"
            f" so runs could overwrite each other's embeddings; {REMEDY}"
        ) from None
