"""The contract of a baseline: a test side and a seed in, predictions out.

A baseline is one file in this folder and one line in `common.registry.BASELINES`. It is given the
open test side: `side.needed_pairs()` are the pairs to score, and `side.sets[0].benchmark` has the
sequences and the training pairs. One process calls it. Its predictions are judged as a model's are.
"""

from __future__ import annotations

from collections.abc import Callable

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.registry import BASELINES

Baseline = Callable[[TestSide, int], Predictions]


def predict_baseline(name: str, side: TestSide, seed: int) -> Predictions:
    """The predictions of a baseline, the same for the same test side and seed.

    Raises:
        UserError: There is no such baseline.
    """
    baseline: Baseline = BASELINES.get(name)
    return baseline(side, seed)
