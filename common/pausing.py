"""SIGTERM and SIGUSR1: clusters send them before they take a machine away. Stop, losing nothing.

Outside of training what is worth keeping is on disk already, or written on the way out, and a
signal ends the process at once, as Ctrl-C does. While training it is kept in mind until the next
update: there the session asks, on all ranks together, and saves where the epoch stands.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGTERM", "SIGUSR1")
# What a data loader's worker outlives a signal by; its process saves its state meanwhile.
WORKER_SECONDS = 3600


class Paused(BaseException):
    """A signal asked this process to stop; the text says where, and how to go on.

    Like KeyboardInterrupt no `Exception`: a library's `except Exception` must not swallow it.
    """


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
        # Launchers and schedulers repeat themselves; what the first one set off is not disturbed.
        first, self.heard = self.heard is None, signal.Signals(number).name
        if first and not self.waiting:
            raise Paused(f"on {self.heard}; start it again to go on")


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
