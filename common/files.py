"""Write files and directories so that no reader ever sees an incomplete file or directory.

A file is written under a temporary name beside its destination and renamed over it. A directory
cannot replace another in one step, so the two are swapped; `recover_directory` undoes a swap that
was interrupted.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import xxhash

from common.errors import UserError

READ_BYTES = 1 << 24
# Seconds after which an unfinished directory is no longer another process's work in progress.
_ABANDONED_AFTER = 24 * 3600.0
# The configuration keys that chose directories, for messages.
_KEYS: dict[Path, str] = {}


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a file atomically, replacing an existing file if there is one.

    Args:
        path: The file; its directory must exist.
        data: The content; text is written as UTF-8.

    Raises:
        UserError: The file cannot be written (the disk is full, for example); an existing file is
            left unchanged.
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    temporary = temporary_beside(path, secrets.token_hex(6))
    try:
        with explain_disk_errors(path, len(content)):
            _write_through(temporary, content)
            temporary.replace(path)
    finally:
        # If even this fails, writing has failed before, and that earlier error is reported.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish_files(moves: Mapping[Path, Path]) -> None:
    """Flush finished files to the disk, and move each to its destination, in the given order.

    Args:
        moves: The destination of each file, on the same file system; a link is followed.

    Raises:
        UserError: A file cannot be moved.
    """
    for temporary, final in moves.items():
        with explain_disk_errors(final):
            _flush(temporary)
            temporary.replace(final.resolve())


def _write_through(path: Path, content: bytes) -> None:
    """Write a new file and flush it to the disk, so that a crash cannot leave an empty file."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def new_directory(
    final: str | Path, replace: bool = True, remedy: str | None = None
) -> Iterator[Path]:
    """Yield an empty directory that becomes `final` when the block ends without an error.

    Several processes, also on several machines, may write the same directory at once: each writes
    under a unique name. Those that replace an existing directory must do so in turn.

    Args:
        final: The destination; its parents are created.
        replace: Whether to replace a directory that exists at the end of the block; otherwise the
            new directory is discarded, and the first of several processes gives it its place.
        remedy: The advice in the error message if the directory cannot be written.

    Raises:
        UserError: The directory cannot be written; an existing one is left unchanged.
    """
    final = Path(final).absolute()  # "." has no name to derive another from
    with contextlib.suppress(OSError):  # another process may finish or remove it meanwhile
        _remove_unfinished(final, older_than=_ABANDONED_AFTER)
    temporary = temporary_beside(final, secrets.token_hex(6))
    try:
        with explain_disk_errors(final, remedy=remedy):
            temporary.mkdir(parents=True)
            yield temporary
        sync_directory(temporary)
        if replace:
            replace_directory(temporary, final)
        else:
            _move_unless_taken(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_beside(final: str | Path, token: str = "") -> Path:
    """Return a hidden temporary path next to `final`; without a token, always the same path."""
    final = Path(final)
    return final.with_name(f".{final.name}.{token}.tmp" if token else f".{final.name}.tmp")


def replace_directory(temporary: str | Path, final: str | Path) -> None:
    """Move a complete new directory to its destination, replacing any directory there.

    Args:
        temporary: The new directory, on the same file system as `final`.
        final: The destination.

    Raises:
        UserError: The new directory cannot be moved; an existing directory is left unchanged.
    """
    temporary, final = Path(temporary), Path(final)
    aside = _aside(final)
    try:
        _undo_swap(final)
        if final.exists():
            final.rename(aside)
        _rename_or_restore(temporary, final, aside)
    except OSError as error:
        raise _cannot_move(temporary, final, error) from None
    # Files that another process holds open can resist (NFS); the next swap or recovery tries again.
    shutil.rmtree(aside, ignore_errors=True)


def _move_unless_taken(temporary: Path, final: Path) -> None:
    try:
        temporary.rename(final)
    except OSError as error:
        # Looking before moving would leave a moment in which another process can be first.
        if not final.is_dir():
            raise _cannot_move(temporary, final, error) from None


def _cannot_move(temporary: Path, final: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot move {temporary} to {final}: {_explain(error)}; allow writing there, or"
        f" {_advise(final)}"
    )


def recover_directory(final: str | Path) -> bool:
    """Repair a directory that a killed process was replacing, before the directory is read.

    If the new directory was not moved to `final`, the older directory is moved back; otherwise the
    rest of the older one is deleted. Unfinished new directories are deleted. Only one process may
    call this.

    Returns:
        Whether there was anything to clean up.

    Raises:
        UserError: A directory cannot be moved or deleted.
    """
    final = Path(final)
    try:
        undone = _undo_swap(final)
        return _remove_unfinished(final) or undone
    except OSError as error:
        raise UserError(
            f"cannot remove the files that a stopped run left beside {final}: {_explain(error)};"
            " allow writing there, or delete these files yourself"
        ) from None


def _remove_unfinished(final: Path, older_than: float = 0.0) -> bool:
    """Delete unfinished versions of a directory, and return whether there were any."""
    found = [
        path
        for path in final.parent.glob(f".{glob.escape(final.name)}.*tmp")
        if path.is_dir() and (not older_than or time.time() - path.stat().st_mtime > older_than)
    ]
    for path in found:
        shutil.rmtree(path)
    return bool(found)


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
def explain_disk_errors(
    path: str | Path, needed: int | None = None, remedy: str | None = None
) -> Iterator[None]:
    """Convert an operating system's error while writing `path` to a `UserError`.

    Args:
        path: The file or directory that is being written.
        needed: Its size in bytes, if known.
        remedy: Further advice for the error message, besides making room and allowing access; by
            default, to change the key that chose the directory (see `name_directory`).
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, _explain(error), needed, remedy) from None


def cannot_write(
    path: str | Path, reason: str, needed: int | None = None, remedy: str | None = None
) -> UserError:
    """Return the error for a path that cannot be written; see `explain_disk_errors`."""
    return UserError(
        f"cannot write {path}{size_note(needed)}: {reason}; make room or allow writing there, or"
        f" {remedy or _advise(path)}",
        own=True,
    )


def name_directory(directory: str | Path, key: str) -> None:
    """Let messages about files below a directory name the configuration key that chose it."""
    _KEYS[Path(directory).absolute()] = key


def _advise(path: str | Path) -> str:
    # A cache may lie below the directory of the outputs.
    for directory, key in sorted(_KEYS.items(), key=lambda each: -len(each[0].parts)):
        if Path(path).absolute().is_relative_to(directory):
            return f"set {key} to another directory"
    return "choose another directory"


def size_note(needed: int | None) -> str:
    """Format a size for a message as ` (N bytes)`, or as an empty string if it is unknown."""
    return "" if needed is None else f" ({needed} bytes)"


def _explain(error: OSError) -> str:
    return error.strerror or str(error)


def hash_file(path: Path) -> str:
    """Return the xxh3 checksum of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sync_directory(directory: Path) -> None:
    """Flush all files of a directory to the disk, because libraries do not flush their files.

    Otherwise a power cut after the rename would leave empty files, when the older directory is
    already deleted.
    """
    # Some file systems report a full disk or an exceeded quota only now.
    with explain_disk_errors(directory):
        for path in (*directory.rglob("*"), directory):
            _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
