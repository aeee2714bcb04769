"""The lock under which the files of an embedding cache are committed and deleted."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from common.errors import UserError
from common.files import explain_disk_errors

LOCK_FILE = "build.lock"
REMEDY = "choose another data_config.embeddings.cache_dir"
# What file systems answer that know no locks, but do not say so by ENOSYS: on those, filelock takes
# the existence of a file for the lock.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
# Far longer than anybody needs the lock, but below the time limit of collective operations.
LOCK_SECONDS = 300.0


@contextmanager
def lock_store(directory: Path) -> Iterator[None]:
    """Hold the store's lock while looking, claiming or committing; never while computing.

    The kernel frees it however the process ends.

    Raises:
        UserError: The directory may not be written, or another process keeps the lock.
    """
    lock = FileLock(directory / LOCK_FILE)
    try:
        with explain_disk_errors(lock.lock_file, remedy=REMEDY):
            _acquire(lock)
    except Timeout:
        raise UserError(
            f"another process has kept {lock.lock_file} locked for {LOCK_SECONDS:.0f} seconds,"
            " which should take milliseconds; end that process if it is suspended, delete the file"
            f" if the process has died on another machine, or {REMEDY}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock) -> None:
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise UserError(
            f"the file system of {lock.lock_file} does not lock files ({error.strerror}), without"
            f" which runs would overwrite each other's embeddings; {REMEDY}"
        ) from None
