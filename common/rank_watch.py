"""Detect a rank that has died, is frozen or cannot be reached, and report which rank it is.

A collective operation waits for all ranks, for hours if one of them has long work to do. To
distinguish long work from a lost host, each rank has a thread that sends heartbeats to the
launcher's key-value store on rank 0's host and reads the heartbeats of the other ranks. If a rank
sends no heartbeat within `run_config.rank_timeout_seconds`, the other processes end with a sentence
that names the rank. A rank that fails leaves the reason in the store, so that others can report it.

This module does not import torch before a watch starts.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import excerpt

# How gloo, NCCL and the store describe a connection that broke or timed out.
BROKEN = (
    "Connection closed by peer", "Connection reset", "Broken pipe", "Socket closed", "timed out",
    "Timed out", "timeout", "Connection refused", "No route to host", "Software caused connection",
    "remote process exited", "NCCL communicator was aborted", "failed to recv", "Failed to recv",
)  # fmt: skip
LEFT = "left"  # the last heartbeat of a rank that has finished; others may still have work to do
FAILED = "failed: "
GRACE_SECONDS = 10.0  # within which ranks with the same failure end by themselves


class RankLostError(Exception):
    """Raised when another rank is lost; the message is one sentence that names the rank."""


class Signs(Protocol):
    """The methods of torch's key-value stores that this module uses."""

    def set(self, key: str, value: str) -> None:
        """Store the value of a key."""

    def check(self, keys: list[str]) -> bool:
        """Return whether all these keys have values."""

    def get(self, key: str) -> bytes:
        """Return the value of a key."""


@dataclass
class RankWatch:
    """Sends this rank's heartbeats and monitors the heartbeats of the other ranks.

    Attributes:
        rank: This process's rank.
        ranks: The number of ranks.
        limit: Seconds without a heartbeat after which a rank counts as lost.
        connect: Opens a connection to the store that no other thread uses.
        end: Ends the process with a sentence; called in a thread of the watch.
        clock: Returns the time in seconds.
    """

    rank: int
    ranks: int
    limit: float
    connect: Callable[[], Signs]
    end: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    signs: dict[int, str] = field(default_factory=dict)
    seen: dict[int, float] = field(default_factory=dict)
    answered: float = 0.0
    count: int = 0
    farewell: str | None = None
    sent: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)

    @property
    def interval(self) -> float:
        """Seconds between two heartbeats."""
        # Each rank asks rank 0's host for the heartbeats of all other ranks.
        return min(max(1.0, self.ranks / 16), self.limit / 10)

    def start(self) -> None:
        """Start two threads: one exchanges heartbeats (and may hang), one detects lost ranks."""
        self.forgive()
        for work in (self._exchange_forever, self._judge_forever):
            threading.Thread(target=work, name="rank watch", daemon=True).start()

    def forgive(self) -> None:
        """Restart the measurement of the time since every rank's last heartbeat."""
        now = self.clock()
        self.answered = now
        self.seen = {rank: now for rank in range(self.ranks) if rank != self.rank}

    def leave(self, farewell: str) -> None:
        """Tell the other ranks why this rank ends: `LEFT`, or `FAILED` followed by a reason."""
        self.farewell = farewell
        self.wake.set()
        self.sent.wait(timeout=2.0)

    def exchange(self, store: Signs) -> None:
        """Send a heartbeat of this rank, and read the heartbeats of the other ranks."""
        farewell, self.count = self.farewell, self.count + 1
        store.set(_key(self.rank), f"{socket.gethostname()} {farewell or self.count}")
        if farewell is not None:
            self.sent.set()
        for rank in self.seen:
            if store.check([_key(rank)]):
                sign = store.get(_key(rank)).decode()
                if sign != self.signs.get(rank):
                    self.signs[rank], self.seen[rank] = sign, self.clock()
        self.answered = self.clock()

    def find_lost(self, limit: float) -> str | None:
        """Describe a rank that failed or was silent for `limit` seconds; None if there is none."""
        now = self.clock()
        for rank, since in self.seen.items():
            _, _, state = self.signs.get(rank, "").partition(" ")
            if state.startswith(FAILED) and now - since > min(limit, GRACE_SECONDS):
                return f"{self._name(rank)} ended ({state.removeprefix(FAILED)})"
        # Without the store, which is on rank 0's host, nothing is known about the other ranks.
        silent = {0: self.answered} if now - self.answered > limit and self.rank else self.seen
        for rank, since in sorted(silent.items(), key=lambda each: each[1]):
            finished = self.signs.get(rank, "").endswith(f" {LEFT}")
            if now - since > limit and not finished:
                seconds = round(now - since)
                return f"{self._name(rank)} has given no sign of life for {seconds} seconds"
        return None

    def blame(self) -> str | None:
        """Describe the rank that broke a connection; None if no lost rank is found in time."""
        deadline = self.clock() + GRACE_SECONDS + 4 * self.interval
        while self.clock() < deadline:
            if (lost := self.find_lost(3 * self.interval)) is not None:
                return lost
            time.sleep(self.interval / 4)
        return None

    def _name(self, rank: int) -> str:
        host = self.signs.get(rank, "").partition(" ")[0]
        return f"rank {rank} on {host}" if host else f"rank {rank}"

    def _exchange_forever(self) -> None:
        store = None
        while not self.sent.is_set():
            try:
                store = store or self.connect()
                self.exchange(store)
            except Exception:  # any error: without answers, `_judge_forever` ends the run
                store = None
            self.wake.wait(timeout=self.interval)

    def _judge_forever(self) -> None:
        before = self.clock()
        while self.farewell is None:
            time.sleep(self.interval / 2)
            if self.clock() - before > 5 * self.interval:
                self.forgive()  # this process itself was frozen
            before = self.clock()
            lost = self.find_lost(self.limit)
            if lost is not None and self.farewell is None:
                self.end(describe_loss(lost))


def describe_loss(lost: str) -> str:
    """Return the error message for a lost rank, given a description of its loss."""
    return (
        f"{lost}, and the others cannot continue without it; check its host and the network, and"
        " run the same command again (training with --resume)"
    )


def keys_of_this_start() -> str:
    """Return a prefix for keys in the launcher's store, which keeps all keys after a restart."""
    return f"relic/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _key(rank: int) -> str:
    return f"{keys_of_this_start()}/sign/{rank}"


_WATCHES: list[RankWatch] = []


def watch_ranks(rank: int, ranks: int, limit: float, end: Callable[[str], None]) -> None:
    """Start to monitor the other ranks, if there are any; later calls have no effect.

    Args:
        rank: This process's rank.
        ranks: The number of ranks.
        limit: Seconds without a heartbeat after which a rank counts as lost.
        end: Ends this process with a sentence.
    """
    if ranks > 1 and "MASTER_ADDR" in os.environ and not _WATCHES:
        _WATCHES.append(RankWatch(rank, ranks, limit, _connect, end))
        _WATCHES[0].start()


def _connect() -> Signs:
    # Imported here: command_line.py imports this module, and torch takes 4 seconds.
    import datetime

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store: Signs = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        timeout=datetime.timedelta(seconds=30),
    )
    return store


def leave(farewell: str) -> None:
    """Tell the other ranks, if there are any, why this rank ends."""
    for watch in _WATCHES:
        watch.leave(" ".join(farewell.split()))


def explain_lost_rank(error: BaseException) -> RankLostError | None:
    """Convert a network error between ranks to a `RankLostError`; return None for other errors."""
    text = str(error)
    if not _WATCHES or not isinstance(error, RuntimeError):
        return None
    if not any(word in text for word in BROKEN):
        return None
    lost = _WATCHES[0].blame()
    reason = excerpt(" ".join(text.split()), limit=120)
    return RankLostError(describe_loss(lost or f"the connection to another rank broke ({reason})"))
