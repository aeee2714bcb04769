"""Round probabilities for output to six significant digits; more digits would be noise."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

DIGITS = 6


def round_digits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round probabilities (N,) to six significant digits."""
    return np.array([_round(each) for each in probabilities.tolist()])


def lowest_written(threshold: float) -> float:
    """Return the lowest probability that reaches the threshold after rounding for output.

    A threshold that a user has copied from an output is rounded, so the exact probability of the
    pair may be lower. Thresholds with more digits are returned unchanged.
    """
    if threshold <= 0 or _round(threshold) != threshold:
        return threshold
    exact = Decimal(repr(threshold))
    place = exact.adjusted()
    if exact == Decimal(1).scaleb(place):
        place -= 1  # numbers just below a power of ten have one more decimal
    lowest = float(exact - Decimal(5).scaleb(place - DIGITS))
    while _round(lowest) < threshold:
        lowest = math.nextafter(lowest, 1)
    return lowest


def _round(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
