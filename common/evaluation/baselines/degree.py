"""A baseline that scores pairs by the number of both proteins' known interaction partners.

Proteins that do not occur in training have no known partners.
"""

from __future__ import annotations

import numpy as np

from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.evaluation.baselines.training import training_pairs
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide


def predict_degree(side: TestSide, seed: int) -> Predictions:
    """Score the test pairs by the sum of both proteins' degrees in the training network."""
    table = side.needed_pairs()
    scores = score_degrees(training_pairs(side, seed), table)
    return Predictions.gather(table.proteins, table.pairs, scores)


def score_degrees(train: PairTable, table: PairTable) -> FloatArray:
    """Compute the sum of both proteins' degrees in the network of positive training pairs, (N,).

    A self-pair adds 2 to the protein's degree, as in networkx. Proteins that do not occur in
    training have the degree 0.
    """
    degrees = np.bincount(train.pairs[train.labels == 1].ravel(), minlength=len(train.proteins))
    # Proteins that do not occur in training have the index −1, which selects the appended 0.
    own = np.append(degrees, 0)[places_of(table.proteins, train.proteins)]
    scores: FloatArray = own[table.pairs].sum(axis=1).astype(np.float64)
    return scores
