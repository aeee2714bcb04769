"""Progress of long work: a bar on the terminal, and `progress` events in the log.

    with LongWork("embedding", total=residues, unit="residues") as work:
        for batch in batches:
            ...
            work.advance(batch.residues)

So even without a terminal, as in a cluster job, the log shows at least once a minute that the work
is alive, how much is done, and how long the rest will take. Only rank 0 has a bar and a log.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from tqdm import tqdm

from common.run import LOGGER, format_event

LOG_EVERY = 60.0  # seconds


@dataclass
class LongWork:
    """A context manager that counts how much of some work is done.

    Attributes:
        name: What the work is called.
        total: How much there is to do.
        unit: What is counted, in the plural.
        shown: Whether a bar may be shown; true on rank 0 only.
        initial: How much an interrupted run had done before.
    """

    name: str
    total: int
    unit: str
    shown: bool = True
    initial: int = 0
    done: int = field(init=False)
    started: float = field(init=False)
    logged: float = field(init=False)

    def __post_init__(self) -> None:
        self.done = self.initial
        self.started = self.logged = time.monotonic()

    def __enter__(self) -> Self:
        self._bar = tqdm(
            total=self.total,
            initial=self.initial,
            desc=self.name,
            unit=f" {self.unit}",
            unit_scale=self.total >= 10_000,
            leave=False,
            # Without a terminal there is no bar either.
            disable=None if self.shown else True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def advance(self, amount: int = 1) -> None:
        """Add to the amount done; log it if a minute has passed since the last time."""
        self.done += amount
        self._bar.update(amount)
        if time.monotonic() - self.logged >= LOG_EVERY:
            self.log()

    def log(self) -> None:
        """Log how much is done, at what speed, and how long the rest will take."""
        self.logged = time.monotonic()
        rate = (self.done - self.initial) / max(self.logged - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else None
        LOGGER.info(
            format_event(
                "progress",
                work=self.name,
                done=self.done,
                total=self.total,
                unit=self.unit,
                per_second=rate,
                seconds_left="unknown" if left is None else round(left),
            )
        )
