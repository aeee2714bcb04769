"""Claims of runs that have died, on file systems with and without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from common.data.embeddings import claims
from common.data.embeddings.claims import SILENCE_SECONDS, Claim

pytestmark = pytest.mark.filterwarnings("ignore:flock not supported")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that claims see."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: clock.now))
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
    monkeypatch.setattr(claims, "RENEW_SECONDS", 1e6)
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
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
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
