"""Which of the scored pairs a user wants. This module imports no slow library."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import PrefilterConfig
from common.errors import UserError


@dataclass(frozen=True)
class Wish:
    """Which of the scored pairs are wanted; without any limit, all are.

    Attributes:
        top_k: The number of best partners of each protein, or of best pairs among listed ones.
        threshold: The lowest probability of a wanted pair.
        density: The share of the scored pairs that is wanted, best first.
    """

    top_k: int | None = None
    threshold: float | None = None
    density: float | None = None

    def __post_init__(self) -> None:
        if self.density is not None and (self.top_k is not None or self.threshold is not None):
            raise UserError(
                "a density selects pairs by itself; leave out the number of partners (top-k) and"
                " the threshold, or leave out the density"
            )
        for name, value in (("threshold", self.threshold), ("density", self.density)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"the {name} {value} is not between 0 and 1; choose another one")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k {self.top_k} is not at least 1; choose a larger one")

    def check_prefilter(self, settings: PrefilterConfig) -> None:
        """Reject a density that needs more pairs than a prefilter keeps.

        Raises:
            UserError: The density is too high; the message names both shares.
        """
        if settings.checkpoint is not None and (self.density or 0) > settings.share:
            raise UserError(
                f"the density {self.density} needs more pairs than the prefilter's share of"
                f" {settings.share} lets be scored; raise the share (--share, or"
                " evaluate.scoring.prefilter.share) or lower the density"
            )

    @property
    def is_open(self) -> bool:
        """Whether all pairs are wanted."""
        return self == Wish()
