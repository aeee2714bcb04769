"""The possible thresholds for a set of scores, one below each distinct score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Levels:
    """The distinct scores in descending order, of which a threshold includes the first few.

    Attributes:
        scores: (L,) the distinct scores.
        _places: (N,) the level of each pair.
    """

    scores: NDArray[np.float64]
    _places: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Levels:
        """Group pairs with the scores (N,) into levels of equal scores."""
        falling, places = np.unique(-scores, return_inverse=True)
        return cls(-falling, places)

    def add_up(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Sum the weights (N,) of the pairs at or above each level: (L,)."""
        given = np.asarray(weights, dtype=np.float64)
        return np.cumsum(np.bincount(self._places, given, len(self.scores)))

    def threshold(self, level: int) -> float:
        """Return the threshold that includes the pairs down to a level, counted from 0.

        The threshold lies midway between this score and the next lower score (or zero), so that
        rounding noise in a score does not change which pairs are called interactions.
        """
        high = float(self.scores[level])
        last = level + 1 == len(self.scores)
        low = min(0.0, high) if last else float(self.scores[level + 1])
        middle = low + (high - low) / 2
        return middle if middle > low else high  # no float lies between adjacent ones
