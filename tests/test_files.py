"""Files and directories are whole or absent, whatever fails and whenever a process dies."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.files import (
    new_directory,
    recover_directory,
    replace_directory,
    sync_directory,
    temporary_beside,
    write_atomically,
)


class Killed(BaseException):
    """Stands for the end of the process: no handler of the code may see it as an error."""


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _directory(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "state").write_text(content)
    return path


def _fail(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: BaseException, at: int = 1
) -> None:
    """Let the `at`-th call of a function fail."""
    original = getattr(owner, name)
    calls = itertools.count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def test_text_and_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert _names(tmp_path) == ["a.txt"]


def test_the_file_has_the_permissions_any_new_file_has(tmp_path: Path) -> None:
    """Named temporary files are private to their owner; a shared results directory is not."""
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_leaves_the_older_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    full = OSError(errno.ENOSPC, "No space left on device")
    _fail(monkeypatch, os, "fsync", full)
    with pytest.raises(UserError) as raised:
        write_atomically(path, "newer")
    assert str(raised.value) == (
        f"cannot write {path} (5 bytes): No space left on device;"
        " make room or allow writing there, or choose another directory"
    )
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, os, "fsync", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", "new")
    assert _names(tmp_path) == []


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        write_atomically(tmp_path / "absent" / "a.txt", "x")


def test_a_place_taken_by_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a\.txt \(1 bytes\): Is a directory"):
        write_atomically(tmp_path / "a.txt", "x")
    assert _names(tmp_path) == ["a.txt"]


def test_a_directory_takes_its_place_with_and_without_an_older_one(tmp_path: Path) -> None:
    final = tmp_path / "last_state"
    for content in ("first", "second"):
        replace_directory(_directory(temporary_beside(final), content), final)
        assert (final / "state").read_text() == content
        assert _names(tmp_path) == ["last_state"]


def test_a_failed_swap_puts_the_older_directory_back(tmp_path: Path) -> None:
    final = _directory(tmp_path / "last_state", "old")
    with pytest.raises(UserError, match=r"cannot move .*absent to .*last_state"):
        replace_directory(tmp_path / "absent", final)
    assert (final / "state").read_text() == "old"
    assert _names(tmp_path) == ["last_state"]


@pytest.mark.parametrize(
    ("step", "content"),
    [
        (1, "old"),  # before the older one is set aside
        (2, "old"),  # before the new one takes its place
        (3, "new"),  # before the older one is deleted
    ],
)
def test_a_swap_cut_short_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, content: str
) -> None:
    final = _directory(tmp_path / "last_state", "old")
    new = _directory(temporary_beside(final), "new")
    with monkeypatch.context() as patch:
        if step == 3:
            _fail(patch, shutil, "rmtree", Killed())
        else:
            _fail(patch, Path, "rename", Killed(), at=step)
        with pytest.raises(Killed):
            replace_directory(new, final)
    assert recover_directory(final)
    assert (final / "state").read_text() == content
    assert _names(tmp_path) == ["last_state"]


def test_a_swap_after_an_unrecovered_one_loses_nothing(tmp_path: Path) -> None:
    """The old state lies aside, its place is empty: a failing swap must still leave it readable."""
    final = tmp_path / "last_state"
    _directory(tmp_path / ".last_state.old", "old")
    with pytest.raises(UserError):
        replace_directory(tmp_path / "absent", final)
    assert (final / "state").read_text() == "old"


def test_remains_of_an_earlier_swap_do_not_stop_the_next(tmp_path: Path) -> None:
    """Deleting the older directory can fail while someone reads it (NFS), and is tried again."""
    final = _directory(tmp_path / "best_model", "old")
    _directory(tmp_path / ".best_model.old", "older")
    replace_directory(_directory(temporary_beside(final), "new"), final)
    assert (final / "state").read_text() == "new"
    assert _names(tmp_path) == ["best_model"]


def test_a_half_written_directory_is_cleared(tmp_path: Path) -> None:
    final = _directory(tmp_path / "last_state", "old")
    _directory(temporary_beside(final), "half")
    _directory(temporary_beside(final, "0a1b"), "half")
    assert recover_directory(final)
    assert (final / "state").read_text() == "old"
    assert _names(tmp_path) == ["last_state"]


def test_a_new_directory_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "a" / "demo"
    for content in ("first", "second"):
        with new_directory(final) as directory:
            (directory / "state").write_text(content)
            assert not final.exists() or (final / "state").read_text() == "first"
        assert (final / "state").read_text() == content
        assert _names(final.parent) == ["demo"]


@pytest.mark.parametrize("error", [Killed, ValueError])
def test_an_error_leaves_the_older_directory(tmp_path: Path, error: type[BaseException]) -> None:
    final = _directory(tmp_path / "demo", "old")

    def fail_half_way() -> None:
        with new_directory(final) as directory:
            (directory / "state").write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert (final / "state").read_text() == "old"
    assert _names(tmp_path) == ["demo"]


@pytest.mark.parametrize(("replace", "stays"), [(True, "mine"), (False, "theirs")])
def test_two_may_write_the_same_directory_at_once(
    tmp_path: Path, replace: bool, stays: str
) -> None:
    final = tmp_path / "cache"
    with new_directory(final, replace) as mine:
        (mine / "state").write_text("mine")
        with new_directory(final, replace) as theirs:
            (theirs / "state").write_text("theirs")
        assert (final / "state").read_text() == "theirs"
    assert (final / "state").read_text() == stays
    assert _names(tmp_path) == ["cache"]


def test_another_process_may_be_first_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, rename = tmp_path / "cache", Path.rename

    def rename_too_late(temporary: Path, target: Path) -> Path:
        _directory(final, "theirs")
        return rename(temporary, target)

    with new_directory(final, replace=False) as mine:
        (mine / "state").write_text("mine")
        monkeypatch.setattr(Path, "rename", rename_too_late)
    assert (final / "state").read_text() == "theirs"
    assert _names(tmp_path) == ["cache"]


def test_a_file_in_the_place_of_a_directory_is_reported(tmp_path: Path) -> None:
    final = tmp_path / "cache"
    with (
        pytest.raises(UserError, match=r"cannot move .*/cache: Not a directory"),
        new_directory(final, replace=False),
    ):
        final.write_text("a file")
    assert _names(tmp_path) == ["cache"]


def test_only_abandoned_directories_are_deleted_by_a_new_one(tmp_path: Path) -> None:
    """A directory of an hour ago may still be another process's work in progress."""
    final = tmp_path / "[demo]"
    for token, hours in (("0a", 25), ("0b", 1)):
        path = temporary_beside(final, token)
        path.mkdir()
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    with new_directory(final):
        pass
    assert _names(tmp_path) == [".[demo].0b.tmp", "[demo]"]


def test_a_new_directory_is_flushed_before_it_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("common.files.sync_directory", flushed.append)
    with new_directory(tmp_path / "demo") as directory:
        assert not flushed
    assert flushed == [directory]


@pytest.mark.parametrize("exists", [False, True])
def test_where_nothing_was_cut_short_nothing_changes(tmp_path: Path, exists: bool) -> None:
    final = tmp_path / "last_state"
    if exists:
        _directory(final, "old")
    assert not recover_directory(final)
    assert _names(tmp_path) == (["last_state"] if exists else [])


def test_remains_that_cannot_be_cleared_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = _directory(tmp_path / "last_state", "new")
    _directory(tmp_path / ".last_state.old", "old")
    _fail(monkeypatch, shutil, "rmtree", PermissionError(13, "Permission denied"))
    with pytest.raises(UserError, match=r"cannot remove the files that .* left beside .*denied"):
        recover_directory(final)


def test_a_quota_that_shows_late_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a network a full quota shows when the data are written through, not before."""

    def full(handle: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    (tmp_path / "weights").write_text("w")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}: .*quota"):
        sync_directory(tmp_path)
