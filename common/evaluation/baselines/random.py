"""A baseline of random scores, which shows the metrics of an uninformed predictor."""

from __future__ import annotations

import numpy as np
import xxhash

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide


def draw_scores(side: TestSide, seed: int) -> Predictions:
    """Assign each test pair a pseudo-random score, uniform in [0, 1).

    A score depends only on the seed and the two protein ids, so the metrics of a task do not depend
    on which other tasks are requested.
    """
    table = side.needed_pairs()
    hashes = [xxhash.xxh3_64_intdigest(name.encode(), seed) for name in table.proteins]
    first, second = np.sort(np.array(hashes, dtype=np.uint64)[table.pairs], axis=1).T
    # The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    mixed = first * np.uint64(0x9E3779B97F4A7C15) + second
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    scores = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return Predictions.gather(table.proteins, table.pairs, scores)
