"""A baseline that counts both proteins' known partners, of which new test proteins have none."""

from __future__ import annotations

import numpy as np

from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.evaluation.baselines.training import training_pairs
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide


def predict_degree(side: TestSide, seed: int) -> Predictions:
    """Score pairs by the sum of both proteins' degrees in the network of training interactions."""
    table = side.needed_pairs()
    scores = score_degrees(training_pairs(side, seed), table)
    return Predictions.gather(table.proteins, table.pairs, scores)


def score_degrees(train: PairTable, table: PairTable) -> FloatArray:
    """Add up the numbers of positive training pairs of both proteins, (N,).

    A training self-pair counts twice in its protein's degree, as in networkx; a protein without
    training pairs has the degree 0.
    """
    degrees = np.bincount(train.pairs[train.labels == 1].ravel(), minlength=len(train.proteins))
    # A protein that is not in training has the index −1, which picks the appended 0.
    own = np.append(degrees, 0)[places_of(table.proteins, train.proteins)]
    scores: FloatArray = own[table.pairs].sum(axis=1).astype(np.float64)
    return scores
