"""A baseline without a language model: boosted trees on amino-acid and dipeptide composition.

The features of a protein are the fractions of 20 amino acids and of 400 dipeptides. The features of
a pair are the sums and absolute differences of both proteins' features, which do not depend on the
order of the proteins. Scikit-learn's `HistGradientBoostingClassifier` is fitted to the labels of
the training pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from common.data.similarity import number_residues
from common.data.tables.pairs import PairTable
from common.evaluation.baselines.training import Learner
from common.evaluation.networks import FloatArray, IntArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.long_work import LongWork
from common.run import LOGGER, format_event

TREES, STEP = 200, 50
MOST_TRAINING_PAIRS = 200_000  # 1.3 GB of features
BLOCK_PAIRS = 20_000  # 134 MB of features
_LETTERS = 20


def predict_composition(side: TestSide, seed: int) -> Predictions:
    """Score the test pairs with boosted trees that are fitted to the training pairs."""
    version = f"1 {TREES} {MOST_TRAINING_PAIRS} {seed} scikit-learn {sklearn.__version__}"
    learner = Learner("composition", version, partial(score_composition, seed=seed))
    return learner.predict(side, seed)


def score_composition(
    train: PairTable, table: PairTable, sequences: Mapping[str, str], seed: int = 0
) -> FloatArray:
    """Fit the trees, and compute every pair's probability of interaction, (N,).

    Args:
        train: Labelled pairs, from which at most `MOST_TRAINING_PAIRS` random pairs are used.
        table: The pairs to score.
        sequences: The sequences of the proteins in both tables.
        seed: The seed for drawing training pairs and for fitting trees.
    """
    if len(train) > MOST_TRAINING_PAIRS:
        LOGGER.info(format_event("composition_draws", pairs=MOST_TRAINING_PAIRS, of=len(train)))
        rows = np.random.default_rng(seed).choice(len(train), MOST_TRAINING_PAIRS, replace=False)
        train = train.select(np.sort(rows))
    if len(np.unique(train.labels)) < 2:
        return np.full(len(table), float(train.labels.mean()))
    fractions = compositions([sequences[name] for name in train.proteins])
    trees = _fit_trees(pair_features(fractions, train.pairs), train.labels, seed)
    fractions = compositions([sequences[name] for name in table.proteins])
    scores = np.empty(len(table))
    with LongWork("composition", total=len(table), unit="pairs") as work:
        for start in range(0, len(table), BLOCK_PAIRS):
            block = slice(start, start + BLOCK_PAIRS)
            features = pair_features(fractions, table.pairs[block])
            scores[block] = trees.predict_proba(features)[:, 1]
            work.advance(len(features))
    return scores


def _fit_trees(
    features: FloatArray, labels: NDArray[np.int8], seed: int
) -> HistGradientBoostingClassifier:
    """Fit the trees in several steps, which shows progress and does not change the result."""
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, warm_start=True)
    with LongWork("fitting", total=TREES, unit="trees") as work:
        for count in (*range(STEP, TREES, STEP), TREES):
            trees.set_params(max_iter=count).fit(features, labels)
            work.advance(count - work.done)
    return trees


def compositions(sequences: Sequence[str]) -> FloatArray:
    """Compute the fractions of amino acids (20) and dipeptides (400) in each sequence, (P, 420).

    Non-standard residues, and dipeptides with non-standard residues, are ignored.
    """
    residues, lengths = number_residues(sequences)
    protein = np.repeat(np.arange(len(lengths)), lengths)
    letters = residues.astype(np.int64)
    known = letters >= 0
    singles = _fractions(protein[known], letters[known], len(lengths), _LETTERS)
    pairs = (protein[1:] == protein[:-1]) & known[1:] & known[:-1]
    codes = letters[:-1][pairs] * _LETTERS + letters[1:][pairs]
    doubles = _fractions(protein[:-1][pairs], codes, len(lengths), _LETTERS**2)
    return np.concatenate([singles, doubles], axis=1)


def _fractions(protein: IntArray, code: IntArray, proteins: int, codes: int) -> FloatArray:
    """Compute the fraction of each code in each protein, (proteins, codes); 0 without codes."""
    counts = np.bincount(protein * codes + code, minlength=proteins * codes)
    counts = counts.reshape(proteins, codes)
    shares: FloatArray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def pair_features(fractions: FloatArray, pairs: IntArray) -> FloatArray:
    """Compute the sums and absolute differences of both proteins' features, (N, 840)."""
    first, second = fractions[pairs[:, 0]], fractions[pairs[:, 1]]
    return np.concatenate([first + second, np.abs(first - second)], axis=1)
