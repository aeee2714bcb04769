"""Pause on a signal without losing work: Ctrl-C, or what clusters send before they end a job.

Outside of training everything worth keeping is on disk already, or is written while the exception
passes, so the signal ends the process at once. During training the signal is remembered until the
next update, where all ranks agree to pause and save how far the epoch has come.
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
# How long a data loader's worker lives on after a signal, while its process saves the state.
WORKER_SECONDS = 3600
# How long a process that has heard a signal waits for its next batch.
WAIT_SECONDS = 15.0


class Paused(BaseException):
    """A signal asked this process to stop; the text says where it stopped and how to continue.

    Like KeyboardInterrupt it is not an `Exception`, so that a library's `except Exception` does not
    swallow it.
    """


@dataclass
class PauseRequest:
    """Records whether a signal has asked this process to stop.

    Attributes:
        heard: The first signal's name.
        waiting: Whether a signal is remembered instead of raised where it arrives.
        interrupted: Whether Ctrl-C was pressed.
        hanging: What the process waits for at the moment, if it may never come.
    """

    heard: str | None = None
    waiting: bool = False
    interrupted: bool = False
    hanging: str | None = None

    def listen(self) -> None:
        """Install handlers for those of the signals that the system has."""
        _handle(self._hear)

    @contextlib.contextmanager
    def waiting_for(self, thing: str) -> Iterator[None]:
        """Limit how long this block waits for a thing after a signal, which is remembered.

        Raises:
            Paused: The thing did not arrive in time.
        """
        self.hanging = thing
        try:
            if self.heard is not None:
                self._hurry()
            yield
        finally:
            self.hanging = None

    def _hurry(self) -> None:
        """End the present wait, if it lasts much longer."""
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
        """Remember a signal within this block instead of raising `Paused`."""
        self.waiting = True
        try:
            yield
        finally:
            self.waiting = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # torchrun turns the second Ctrl-C that it gets itself into a SIGTERM for its processes.
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


# The process has one request, as it has one set of signal handlers.
PAUSE = PauseRequest()


def outlive_signals(worker: int) -> None:
    """Keep a data loader's worker alive for a while, because its process needs the batches.

    A terminal or a cluster signals every process of a job. A worker that ignored the signal for
    good could not be ended by the same signal later.
    """
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _handle(lambda number, frame: signal.alarm(WORKER_SECONDS))


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)
