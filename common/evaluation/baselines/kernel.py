"""A baseline with a language model but without a training loop: kernel ridge regression.

Two-step kernel ridge regression (Stock et al., "A comparative study of pairwise learning methods
based on kernel ridge regression", Neural Computation 2018) has a closed form. With the kernel
matrix K of the training proteins, the kernel vector k_a of a protein a with the training proteins,
and the matrix Y of the training interactions (1, otherwise 0), the score of a pair (a, b) is

    k_a · (K + λ)^-1 Y (K + λ)^-1 · k_b

The kernel of two proteins is exp(3 (cos - 1)), where cos is the cosine of their mean residue
states, standardized over the training proteins. The constants were chosen on held-out proteins of
the human network.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_array, csr_array
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from common.config_data import DataConfig
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation.baselines.base import BaselineLeftOutError
from common.evaluation.baselines.training import learning_tables
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.long_work import LongWork
from common.run import OneProcess

SHARPNESS, RIDGE = 3.0, 3.0
MOST_TRAINING_PROTEINS = 12_000  # their kernel matrix takes 0.6 GB
_BLOCK_CELLS = 16_000_000  # scores in a block: 64 MB in float32

Matrix = NDArray[np.float32]


def predict_kernel(side: TestSide, seed: int) -> Predictions:
    """Score the test pairs by kernel ridge regression on the training interactions.

    Raises:
        BaselineLeftOutError: The benchmark has no training pairs, or proteins cannot be embedded.
    """
    train, table, sequences = learning_tables(side, seed)
    train = _limit_proteins(train, np.random.default_rng(seed))
    try:
        learned, wanted = describe_proteins((train, table), sequences, side.config.data)
    except UserError as error:
        raise BaselineLeftOutError(str(error)) from None
    # With one thread, so that rounding does not depend on the number of processes of the run.
    with threadpool_limits(1):
        scores = score_kernel(train, table, learned, wanted)
    return Predictions.gather(table.proteins, table.pairs, scores)


def describe_proteins(
    tables: tuple[PairTable, ...], sequences: Mapping[str, str], settings: DataConfig
) -> list[Matrix]:
    """Compute the mean residue states of each table's proteins, (P, D).

    This process computes states that the cache lacks.

    Raises:
        UserError: The language model is missing, or the cache cannot be written.
    """
    # Imported here because torch and transformers take 4 seconds, and other baselines need neither.
    import torch

    from common.data.embeddings.build import prepare_store
    from common.data.embeddings.means import open_means

    alone = OneProcess(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    needed = sorted({protein for table in tables for protein in table.proteins})
    texts = {protein: sequences[protein] for protein in needed}
    store = prepare_store(texts, settings.embeddings, settings.max_sequence_length, alone)
    means = open_means(store, alone)
    return [means.gather(table.proteins).astype(np.float32) for table in tables]


def score_kernel(train: PairTable, table: PairTable, learned: Matrix, wanted: Matrix) -> FloatArray:
    """Compute the score of every pair, (N,), which is close to 1 for training interactions.

    Args:
        train: Labelled pairs; unlisted pairs of the same proteins count as non-interacting.
        table: The pairs to score.
        learned: (T, D) the mean residue state of each protein in `train`.
        wanted: (P, D) the mean residue state of each protein in `table`.
    """
    kernel, across = compare_proteins(learned, learned), compare_proteins(learned, wanted)
    kernel[np.diag_indices(len(kernel))] += RIDGE
    factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, across, overwrite_b=True, check_finite=False)  # (T, P)
    partners = _interactions(train) @ weights
    scores = np.empty(len(table))
    # Pairs are sorted by the first protein, so that the pairs of a block of proteins are adjacent.
    order = np.argsort(table.pairs[:, 0], kind="stable")
    size = max(1, _BLOCK_CELLS // len(table.proteins))
    with LongWork("kernel", total=len(table.proteins), unit="proteins") as work:
        for start in range(0, len(table.proteins), size):
            end = min(start + size, len(table.proteins))
            rows = order[slice(*np.searchsorted(table.pairs[order, 0], [start, end]))]
            first, second = table.pairs[rows].T
            block = weights[:, start:end].T @ partners
            scores[rows] = block[first - start, second]
            work.advance(end - start)
    return scores


def compare_proteins(learned: Matrix, wanted: Matrix) -> Matrix:
    """Compute the kernel matrix (T, P) between training proteins and other proteins."""
    center, spread = learned.mean(axis=0), learned.std(axis=0) + 1e-6

    def unit(proteins: Matrix) -> Matrix:
        standardized = (proteins - center) / spread
        lengths = np.linalg.norm(standardized, axis=1, keepdims=True)
        scaled: Matrix = standardized / np.maximum(lengths, 1e-12)
        return scaled

    kernel: Matrix = np.exp(SHARPNESS * (unit(learned) @ unit(wanted).T - 1))
    return kernel


def _interactions(train: PairTable) -> csr_array:
    """Return the symmetric sparse matrix (T, T) of training interactions, with 1 for each."""
    pairs = train.pairs[train.labels == 1]
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    ones, shape = np.ones(len(both), np.float32), (len(train.proteins),) * 2
    return coo_array((ones, tuple(both.T)), shape=shape).tocsr()


def _limit_proteins(train: PairTable, rng: np.random.Generator) -> PairTable:
    """Select the pairs among `MOST_TRAINING_PROTEINS` random proteins; keep all if fewer exist."""
    count = len(train.proteins)
    if count <= MOST_TRAINING_PROTEINS:
        return train
    kept = np.zeros(count, bool)
    kept[rng.choice(count, MOST_TRAINING_PROTEINS, replace=False)] = True
    first, second = train.pairs.T
    return train.select(kept[first] & kept[second])
