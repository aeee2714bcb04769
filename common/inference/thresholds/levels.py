"""The possible thresholds for a set of scores: one between each distinct score and the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Levels:
    """The distinct scores, highest first: a threshold calls the pairs of the first few.

    Attributes:
        scores: (L,) the distinct scores.
        _places: (N,) the level of each pair.
    """

    scores: NDArray[np.float64]
    _places: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Levels:
        """Find the levels of the scores (N,) of pairs."""
        falling, places = np.unique(-scores, return_inverse=True)
        return cls(-falling, places)

    def add_up(self, weights: ArrayLike) -> NDArray[np.float64]:
        """Sum the weights (N,) of the pairs that lie at or above each level; (L,)."""
        given = np.asarray(weights, dtype=np.float64)
        return np.cumsum(np.bincount(self._places, given, len(self.scores)))

    def threshold(self, level: int) -> float:
        """Return the threshold that calls the pairs down to a level, counted from 0.

        It lies midway between this score and the next one below it (or zero), so that rounding
        noise in a score does not change which pairs are called.
        """
        high = float(self.scores[level])
        last = level + 1 == len(self.scores)
        low = min(0.0, high) if last else float(self.scores[level + 1])
        middle = low + (high - low) / 2
        return middle if middle > low else high  # no float lies between adjacent ones
