"""A baseline that predicts only self-pairs, to show how much self-pairs contribute to metrics."""

from __future__ import annotations

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide


def predict_self_pairs(side: TestSide, seed: int) -> Predictions:
    """Give every self-pair the score 1, and all other pairs the score 0."""
    table = side.needed_pairs()
    return Predictions.gather(table.proteins, table.pairs, table.is_self.astype(float))
