"""Writing files and directories so that a reader never meets half of one.

A file is written beside its place and renamed into it. A directory cannot replace another in one
step, so it is swapped, and `recover_directory` undoes a swap that was cut short.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import xxhash

from common.errors import UserError

READ_BYTES = 1 << 24


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a whole file, in place of an older one if there is one.

    Args:
        path: The file; its directory must exist.
        data: The content; text is written as UTF-8.

    Raises:
        UserError: The disk is full, the place may not be written, and the like; an older file is
            still there and whole.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    # Unique over the processes of several machines that share the directory.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        _write_through(temporary, content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({len(content)} bytes): {_explain(error)};"
            " make room or permit writing there, or choose another directory",
            own=True,
        ) from None
    finally:
        _remove_file(temporary)


def _write_through(path: Path, content: bytes) -> None:
    """Write to the disk itself: a rename that outruns its data leaves an empty file on a crash."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove_file(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Where even this fails the write has failed before, and that is what the user is told.
        return


def temporary_beside(final: str | Path) -> Path:
    """Where to write a directory before `replace_directory`: the same name in every process."""
    final = Path(final)
    return final.with_name(f".{final.name}.tmp")


def replace_directory(temporary: str | Path, final: str | Path) -> None:
    """Put a freshly written directory into the place of an older one, if there is one.

    Args:
        temporary: The complete new directory, on the same file system as `final`.
        final: Its place.

    Raises:
        UserError: It cannot be moved there; the older directory is still in its place.
    """
    temporary, final = Path(temporary), Path(final)
    aside = _aside(final)
    try:
        _undo_swap(final)
        if final.exists():
            final.rename(aside)
        _rename_or_restore(temporary, final, aside)
    except OSError as error:
        raise UserError(
            f"cannot put {temporary} into the place of {final}: {_explain(error)};"
            " permit writing there, or choose another directory"
        ) from None
    # Files still held open elsewhere can resist (NFS); the next swap or recovery gets them.
    shutil.rmtree(aside, ignore_errors=True)


def recover_directory(final: str | Path) -> bool:
    """Undo what a killed process left of a swap: on start, in one process, before reading.

    The older directory goes back where the new one had not reached its place; otherwise its
    remains are deleted, as is what lies at `temporary_beside(final)`, which nobody completed.

    Returns:
        Whether there was anything to undo.

    Raises:
        UserError: The remains cannot be moved or deleted.
    """
    final = Path(final)
    unfinished = temporary_beside(final)
    try:
        undone = _undo_swap(final)
        if unfinished.exists():
            shutil.rmtree(unfinished)
            undone = True
    except OSError as error:
        raise UserError(
            f"cannot clear what a stopped run left beside {final}: {_explain(error)};"
            " permit writing there, or remove it by hand"
        ) from None
    return undone


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _undo_swap(final: Path) -> bool:
    aside = _aside(final)
    if not aside.exists():
        return False
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)
    return True


def _rename_or_restore(temporary: Path, final: Path, aside: Path) -> None:
    try:
        temporary.rename(final)
    except OSError:
        if aside.exists():
            aside.rename(final)
        raise


@contextlib.contextmanager
def explain_disk_errors(path: str | Path, needed: int | None = None) -> Iterator[None]:
    """Turn a library's failure to write at `path` into the user's sentence.

    Args:
        path: What is being written.
        needed: How many bytes that takes, where it is known.

    Raises:
        UserError: The disk is full, the place may not be written, and the like.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}{tell_bytes(needed)}: {_explain(error)}; make room or permit"
            " writing there, or choose another directory",
            own=True,
        ) from None


def tell_bytes(needed: int | None) -> str:
    """` (so many bytes)`, where it is known how many."""
    return "" if needed is None else f" ({needed} bytes)"


def _explain(error: OSError) -> str:
    return error.strerror or str(error)


def explain_no_text(path: Path) -> str:
    """What to say of a file that should be text in UTF-8 and is not."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b" and path.suffix != ".gz"
    remedy = "it is packed by gzip, so let its name end in .gz" if packed else "save it as such"
    return f"{path} is not a text file in UTF-8; {remedy}"


def hash_file(path: Path) -> str:
    """The xxh3 checksum of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sync_directory(directory: Path) -> None:
    """Write all files of a directory through to the disk, as libraries do not.

    A rename that outruns its data leaves hollow files after a power cut, and the older directory
    is gone by then.
    """
    # Some file systems tell only now that the disk, or a quota, is full.
    with explain_disk_errors(directory):
        for path in (*directory.rglob("*"), directory):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
