"""Every protein interacts with itself and with no other: how much of a score self-pairs give."""

from __future__ import annotations

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide


def predict_self_pairs(side: TestSide, seed: int) -> Predictions:
    """The score 1 for every self-pair, and 0 for all other pairs."""
    table = side.needed_pairs()
    return Predictions.gather(table.proteins, table.pairs, table.is_self.astype(float))
