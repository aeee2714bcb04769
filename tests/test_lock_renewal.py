"""Locks and claims of processes that have died, on file systems with and without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from filelock import FileLock

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
