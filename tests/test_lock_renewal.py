"""Locks and claims of processes that have died, on file systems with and without locks."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from filelock import FileLock, Timeout

from common.data import lock_renewal, turns
from common.data.embeddings import store_lock
from common.data.embeddings.claims import Claim
from common.data.embeddings.store_lock import lock_store
from common.data.lock_renewal import SILENCE_SECONDS
from common.errors import UserError
from tests.tiny_esm import record_log

pytestmark = pytest.mark.filterwarnings("ignore:flock not supported")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that watches see."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(lock_renewal, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre may be mounted."""

    def refuse(handle: int, operation: int) -> NoReturn:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)


def watch(mine: Claim, clock: SimpleNamespace, seconds: float) -> dict[str, set[str]]:
    """What others claim, seen from now on until so many seconds later."""
    mine.others()
    clock.now += seconds
    return mine.others()


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_claim_is_void_when_its_run_is_silent(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that had been killed on another machine was waited for without end."""
    monkeypatch.setattr(lock_renewal, "RENEW_SECONDS", 1e6)
    mine, other = Claim(tmp_path), Claim(tmp_path)
    other.replace(["a", "b"])
    assert watch(mine, clock, SILENCE_SECONDS) == {other.owner: {"a", "b"}}
    # A clock that is far behind changes the date, which is a sign of life like any other.
    os.utime(tmp_path / f".{other.owner}.lock", (0, 0))
    assert watch(mine, clock, SILENCE_SECONDS) == {other.owner: {"a", "b"}}
    assert watch(mine, clock, 1.0) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_locks")
def test_a_living_run_renews_its_claim_until_it_ends(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_renewal, "RENEW_SECONDS", 0.01)
    mine = Claim(tmp_path)
    with Claim(tmp_path) as other:
        other.replace(["a"])
        lock = tmp_path / f".{other.owner}.lock"
        for _ in range(3):
            mine.others()
            before = lock.stat().st_mtime_ns
            deadline = time.monotonic() + 10
            while lock.stat().st_mtime_ns == before:
                assert time.monotonic() < deadline
            clock.now += 2 * SILENCE_SECONDS
            assert mine.others() == {other.owner: {"a"}}
    assert mine.others() == {}
    assert list(tmp_path.iterdir()) == []


def test_with_locks_a_silent_run_keeps_its_claim(tmp_path: Path, clock: SimpleNamespace) -> None:
    mine = Claim(tmp_path)
    with Claim(tmp_path) as other:
        other.replace(["a"])
        assert watch(mine, clock, 2 * SILENCE_SECONDS) == {other.owner: {"a"}}


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_turn_is_taken_over_when_its_holder_is_silent(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs waited without end for one that had been killed while it prepared their benchmark."""
    holder = FileLock(tmp_path / ".one.lock")
    holder.acquire()
    looks: list[float] = []

    def look(lock: lock_renewal.LockWatch, held: FileLock) -> bool:
        looks.append(clock.now)
        clock.now += SILENCE_SECONDS / 2
        return is_abandoned(lock, held)

    is_abandoned = lock_renewal.LockWatch.is_abandoned
    monkeypatch.setattr(lock_renewal.LockWatch, "is_abandoned", look)
    monkeypatch.setattr(lock_renewal, "ASK_SECONDS", 0.01)
    with record_log() as log, turns.in_turn(tmp_path / "one"):
        assert log.events() == ["benchmark_waiting"]
    # It counts from the first look, and then needs more than the limit.
    assert len(looks) == 4
    assert list(tmp_path.iterdir()) == []


class Waiter:
    """A process that waits for a lock, one step at a time."""

    def __init__(self, file: Path) -> None:
        self.lock, self.watch = FileLock(file), lock_renewal.LockWatch()

    def try_to_lock(self) -> bool:
        """Look once, and return whether the lock is held now."""
        with suppress(Timeout):
            self.lock.acquire(timeout=0)
        return self.lock.is_locked

    def has_waited(self, clock: SimpleNamespace) -> bool:
        """Let the time pass after which a lock counts as abandoned."""
        assert not self.try_to_lock()
        assert not self.watch.is_abandoned(self.lock)
        clock.now += 2 * SILENCE_SECONDS
        return self.watch.is_abandoned(self.lock)


@pytest.fixture
def abandoned(tmp_path: Path, without_locks: None) -> Path:
    """A lock of another machine, which has died."""
    file = tmp_path / ".one.lock"
    file.write_text("1\nanother machine\n")
    return file


def test_two_that_find_a_lock_abandoned_do_not_both_get_it(
    abandoned: Path, clock: SimpleNamespace
) -> None:
    """The later of two removed the file with which the earlier had just locked."""
    first, second = Waiter(abandoned), Waiter(abandoned)
    assert [each.has_waited(clock) for each in (first, second)] == [True, True]
    first.watch.remove_abandoned(first.lock)
    assert first.try_to_lock()
    second.watch.remove_abandoned(second.lock)
    assert not second.try_to_lock()
    first.lock.release()
    assert second.try_to_lock()


def test_one_may_not_remove_an_abandoned_lock_while_another_does(
    abandoned: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at the file and its removal, it cannot become another one."""
    first, second = Waiter(abandoned), Waiter(abandoned)
    assert second.has_waited(clock)
    unlink, got = Path.unlink, list[bool]()

    def unlink_late(path: Path, missing_ok: bool = False) -> None:
        if path == abandoned and not got:
            got.append(False)
            second.watch.remove_abandoned(second.lock)
            got[:] = [second.try_to_lock()]
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    monkeypatch.setattr(lock_renewal, "ASK_SECONDS", 0.01)
    hours = SimpleNamespace(monotonic=itertools.count(clock.now, 3600).__next__)
    monkeypatch.setattr(lock_renewal, "time", hours)
    lock_renewal.acquire(first.lock)
    assert got == [False]
    assert not second.try_to_lock()


def test_who_dies_while_removing_a_lock_is_not_waited_for_without_end(
    abandoned: Path, clock: SimpleNamespace
) -> None:
    waiter = Waiter(abandoned)
    assert waiter.has_waited(clock)
    removal = abandoned.with_name(f"{abandoned.name}.{abandoned.stat().st_mtime_ns}")
    removal.write_text("1\nanother machine\n")
    for _ in range(3):
        assert abandoned.exists()
        waiter.watch.remove_abandoned(waiter.lock)
        clock.now += 2 * SILENCE_SECONDS
    assert waiter.try_to_lock()
    assert list(abandoned.parent.iterdir()) == [abandoned]


def test_a_lock_that_was_renewed_at_the_last_moment_stays(
    abandoned: Path, clock: SimpleNamespace
) -> None:
    waiter = Waiter(abandoned)
    assert waiter.has_waited(clock)
    os.utime(abandoned)
    waiter.watch.remove_abandoned(waiter.lock)
    assert not waiter.try_to_lock()


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    with Claim(directory) as claim:
        claim.replace(["a"])
        yield


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("holding", [claimed, lock_store, turns.in_turn])
def test_a_lock_is_renewed_until_it_is_released(
    holding: Callable[[Path], AbstractContextManager[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_renewal, "RENEW_SECONDS", 0.01)
    before = set(threading.enumerate())
    (tmp_path / "one").mkdir()
    with holding(tmp_path / "one"):
        (file,) = tmp_path.rglob("*.lock")
        (renewal,) = set(threading.enumerate()) - before
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 10
        while file.stat().st_mtime == 0:
            assert time.monotonic() < deadline
    renewal.join(timeout=10)
    assert not renewal.is_alive()


def test_a_store_that_stays_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's error is one of the system's, and passed for a disk that cannot be written."""
    monkeypatch.setattr(store_lock, "LOCK_SECONDS", 0.02)
    monkeypatch.setattr(lock_renewal, "ASK_SECONDS", 0.01)
    sentence = r"build\.lock has been locked by another process for 0 seconds .*cache_dir$"
    with lock_store(tmp_path), pytest.raises(UserError, match=sentence), lock_store(tmp_path):
        raise AssertionError("it was locked twice")
    with lock_store(tmp_path):
        pass
