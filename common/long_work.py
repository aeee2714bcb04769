"""Report the progress of long work by a bar on the terminal and `progress` events in the log.

    with LongWork("embedding", total=residues, unit="residues") as work:
        for batch in batches:
            ...
            work.advance(batch.residues)

Even without a terminal, as in a cluster job, the log thus shows at least once a minute how much of
the work is done, and how long the rest will take. Only rank 0 has a bar and a log.
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
    """A context manager that counts and reports the completed units of some work.

    Attributes:
        name: The name of the work.
        total: The number of units, including `initial`.
        unit: The name of the units, in the plural.
        shown: Whether a bar may be shown; true on rank 0 only.
        initial: The number of units that an interrupted run has done before.
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
        """Add completed units; log the progress if it was last logged more than a minute ago."""
        self.done += amount
        self._bar.update(amount)
        if time.monotonic() - self.logged >= LOG_EVERY:
            self.log()

    def log(self) -> None:
        """Log how many units are done, the speed, and how long the rest will take."""
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
