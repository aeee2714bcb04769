"""The interface of a baseline: a function from the test data and a seed to predictions.

A baseline is defined in a file in this folder and registered by a line in
`common.registry.BASELINES`. The function receives the test data (`TestSide`):
`side.needed_pairs()` returns the pairs to score, and `side.sets[0].benchmark` has the sequences and
training pairs. A single process calls the function. The predictions of a baseline are evaluated in
the same way as those of a model.
"""

from __future__ import annotations

from collections.abc import Callable

from common.errors import UserError
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.registry import BASELINES


class BaselineLeftOutError(UserError):
    """Raised by a baseline that cannot be run on the test data; a note then gives the reason."""


Baseline = Callable[[TestSide, int], Predictions]


def predict_baseline(name: str, side: TestSide, seed: int) -> Predictions:
    """Compute a baseline's predictions, which only depend on the test data and the seed.

    Raises:
        UserError: No baseline has this name.
    """
    baseline: Baseline = BASELINES.get(name)
    return baseline(side, seed)
