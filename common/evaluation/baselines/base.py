"""The interface of a baseline: it takes a test side and a seed, and returns predictions.

A baseline is one file in this folder and one line in `common.registry.BASELINES`. It gets the open
test side: `side.needed_pairs()` are the pairs to score, and `side.sets[0].benchmark` has the
sequences and the training pairs. One process calls it. Its predictions are judged like a model's.
"""

from __future__ import annotations

from collections.abc import Callable

from common.errors import UserError
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.registry import BASELINES


class BaselineLeftOutError(UserError):
    """Raised by a baseline that cannot be run on this test side; a note then says why."""


Baseline = Callable[[TestSide, int], Predictions]


def predict_baseline(name: str, side: TestSide, seed: int) -> Predictions:
    """Compute a baseline's predictions; the same test side and seed always give the same ones.

    Raises:
        UserError: There is no such baseline.
    """
    baseline: Baseline = BASELINES.get(name)
    return baseline(side, seed)
