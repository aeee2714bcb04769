"""Pause on Ctrl-C, or on a cluster's signal before the end of a job, without losing work.

Outside training, results are on disk already or are saved while the exception `Paused` propagates,
so a signal ends the process immediately. During training, a signal is remembered until the next
update, where all ranks agree to pause and save the progress of the epoch.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
EXIT_INTERRUPTED = 130
# How long a data loader's worker continues after a signal, while its process saves the state.
WORKER_SECONDS = 3600
# How long a process that has received a signal waits for its next batch.
WAIT_SECONDS = 15.0


class Paused(BaseException):
    """Raised when a signal stops this process; the message says where, and how to continue.

    Like KeyboardInterrupt it is not an `Exception`, so that a library's `except Exception` does not
    swallow it.
    """


@dataclass
class PauseRequest:
    """Records whether a signal has asked this process to stop.

    Attributes:
        heard: The first signal's name.
        waiting: Whether a signal is only remembered, instead of raising `Paused` immediately.
        interrupted: Whether Ctrl-C was pressed.
        hanging: What the process is waiting for, if that may never arrive.
    """

    heard: str | None = None
    waiting: bool = False
    interrupted: bool = False
    hanging: str | None = None

    def listen(self) -> None:
        """Install handlers for all of `SIGNALS` that the operating system has."""
        _handle(self._hear)

    @contextlib.contextmanager
    def waiting_for(self, thing: str) -> Iterator[None]:
        """Limit how long this block may wait for something once a signal has arrived.

        Raises:
            Paused: The block was still waiting `WAIT_SECONDS` after the signal.
        """
        self.hanging = thing
        try:
            if self.heard is not None:
                self._hurry()
            yield
        finally:
            self.hanging = None

    def _hurry(self) -> None:
        """Start a timer that ends the present wait after `WAIT_SECONDS`."""
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self._give_up)
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        if self.hanging is not None:
            raise Paused(
                f"on {self.heard} while waiting in vain for {self.hanging}; resume the last saved"
                " state with --resume"
            )

    @contextlib.contextmanager
    def until_asked(self) -> Iterator[None]:
        """Remember signals that arrive within this block instead of raising `Paused`."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # When torchrun itself receives a second Ctrl-C, it sends SIGTERM to its processes.
        launched = number == signal.SIGTERM and "TORCHELASTIC_RUN_ID" in os.environ
        if self.interrupted and (number == signal.SIGINT or launched):
            os._exit(EXIT_INTERRUPTED)
        self.interrupted = self.interrupted or number == signal.SIGINT
        # Launchers and schedulers repeat signals; a repeated one must not disturb the saving.
        first = self.heard is None
        self.heard = self.heard or signal.Signals(number).name
        if first and not self.waiting:
            raise Paused(f"on {self.heard}; run the same command again to continue")
        if self.hanging is not None:
            self._hurry()
        if self.interrupted and os.environ.get("RANK", "0") == "0":
            # Not through sys.stderr, whose buffer the interrupted code may be writing.
            os.write(2, b"saving after this step; Ctrl-C again stops at once, without saving\n")


# A process has only one set of signal handlers, so it has only one request.
PAUSE = PauseRequest()


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Hold back all of `SIGNALS` in this block, and in a worker started here until it is ready.

    A new worker has PyTorch's handlers until it calls `outlive_signals`, and SIGTERM would end it.
    """
    _mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _mask(signal.SIG_UNBLOCK)


def outlive_signals(worker: int) -> None:
    """Let a data loader's worker continue for a while after a signal, to deliver its batches.

    A terminal or a cluster sends a signal to every process of a job. A worker that ignored the
    signal forever could not be ended by the same signal later.
    """
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _handle(lambda number, frame: signal.alarm(WORKER_SECONDS))
    _mask(signal.SIG_UNBLOCK)


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    for number in _numbers():
        signal.signal(number, handler)


def _mask(how: int) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(how, _numbers())


def _numbers() -> list[signal.Signals]:
    """Return those of `SIGNALS` that the operating system has."""
    return [signal.Signals[name] for name in SIGNALS if hasattr(signal, name)]
