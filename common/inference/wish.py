"""The user's limits on the scored pairs to keep: number of partners, threshold, density.

This module imports no slow library.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.config import PrefilterConfig
from common.errors import UserError


@dataclass(frozen=True)
class Wish:
    """The user's limits on the scored pairs to keep; without a limit, all pairs are kept.

    Attributes:
        top_k: The number of best partners of each protein, or of best pairs in a list of pairs.
        threshold: The lowest probability of a kept pair.
        density: The fraction of the scored pairs to keep, best first.
    """

    top_k: int | None = None
    threshold: float | None = None
    density: float | None = None

    def __post_init__(self) -> None:
        if self.density is not None and (self.top_k is not None or self.threshold is not None):
            raise UserError(
                "a density cannot be combined with a number of partners (top-k) or a threshold;"
                " leave out the density, or the other limits"
            )
        for name, value in (("threshold", self.threshold), ("density", self.density)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"the {name} is {value}, but must be between 0 and 1")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k is {self.top_k}, but must be at least 1")

    def check_prefilter(self, settings: PrefilterConfig) -> None:
        """Reject a density that needs more pairs than the prefilter lets pass.

        Raises:
            UserError: The density is too high; the message names both fractions.
        """
        if settings.checkpoint is not None and (self.density or 0) > settings.share:
            raise UserError(
                f"the density {self.density} needs more pairs than the fraction {settings.share}"
                " that the prefilter lets pass; raise this fraction (--share, or"
                " evaluate.scoring.prefilter.share), or lower the density"
            )

    @property
    def is_open(self) -> bool:
        """Whether no limit is set, so that all pairs are kept."""
        return self == Wish()
