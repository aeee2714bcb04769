"""SIGTERM and SIGUSR1: clusters send them before they take a machine away. Stop, losing nothing.

Outside of training everything worth keeping is on disk already, and a signal ends the process at
once, as Ctrl-C does. While training it is kept in mind until the next update: there the session
asks, on all ranks together, and saves where the epoch stands.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGTERM", "SIGUSR1")
# What a data loader's worker outlives a signal by; its process saves its state meanwhile.
WORKER_SECONDS = 30


class Paused(Exception):  # noqa: N818 (no error)
    """A signal asked this process to stop; what was done is on disk and can be gone on with."""


@dataclass
class PauseRequest:
    """Whether a signal has asked this process to stop.

    Attributes:
        heard: The signal's name.
        waiting: Whether it is kept in mind instead of raised where it arrives.
    """

    heard: str | None = None
    waiting: bool = False

    def listen(self) -> None:
        """Take the signals from now on; on systems that lack one, the others."""
        for name in SIGNALS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._hear)

    @contextlib.contextmanager
    def until_asked(self) -> Iterator[None]:
        """Within this, a signal is only kept in mind."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = signal.Signals(number).name
        if not self.waiting:
            raise Paused(f"on {self.heard}")


# One for the process, as its signal handlers are.
PAUSE = PauseRequest()


def outlive_signals(worker: int) -> None:
    """In a data loader's worker: go on for a while, for the process that still needs its batches.

    A cluster signals every process of a job. Ignoring the signal for good would leave a worker
    that is told to end by the same signal running.
    """
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end_soon)


def _end_soon(number: int, frame: FrameType | None) -> None:
    signal.alarm(WORKER_SECONDS)
