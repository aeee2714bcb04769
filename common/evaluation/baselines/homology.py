"""A baseline that scores a pair by the best interolog, a training interaction between homologs.

Interactions are often conserved between homologs (Walhout et al., Science 2000; Matthews et al.,
Genome Research 2001). The score of a pair (a, b) is the highest product share(a, c) · share(b, d)
over all training interactions (c, d), in both orientations. Here share(a, c) is the number of
identical residues in an alignment, divided by the length of the shorter sequence
(`common/data/similarity.py`), and 1 for identical proteins. Weak matches also count, because they
are the only matches if training and test proteins are dissimilar. A pair without an interolog
scores 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.data.similarity import Method, best_method, match_sequences
from common.data.tables.pairs import PairTable
from common.evaluation.baselines.training import Learner
from common.evaluation.networks import FloatArray, IntArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.long_work import LongWork

_BLOCK_CELLS = 4_000_000  # cells of a block's largest matrix: 16 MB in float32


def predict_homology(side: TestSide, seed: int) -> Predictions:
    """Score each test pair by the strength of the best interolog among the training pairs."""
    learner = Learner("homology", f"1 {best_method()}", score_homology)
    return learner.predict(side, seed)


def score_homology(
    train: PairTable,
    table: PairTable,
    sequences: Mapping[str, str],
    method: Method | None = None,
) -> FloatArray:
    """Compute the strength of the best interolog of every pair, (N,) in [0, 1].

    Args:
        train: Labelled pairs, of which only interactions are used.
        table: The pairs to score.
        sequences: The sequences of the proteins in both tables.
        method: The method to find similar sequences; None for MMseqs2 if it is installed.

    Raises:
        UserError: MMseqs2 fails.
    """
    known = train.select(train.labels == 1)
    wanted, texts = ([sequences[name] for name in each.proteins] for each in (table, known))
    matches = match_sequences(wanted, texts, method)
    shape = (len(table.proteins), len(known.proteins))
    shares = csr_array((matches.shares.astype(np.float32), tuple(matches.pairs.T)), shape=shape)
    scores = np.zeros(len(table))
    # Pairs are sorted by the first protein, so that the pairs of a block of proteins are adjacent.
    order = np.argsort(table.pairs[:, 0], kind="stable")
    starts = np.searchsorted(table.pairs[order, 0], np.arange(shape[0] + 1))
    with LongWork("homology", total=shape[0], unit="proteins") as work:
        for block, best in best_interologs(known.pairs, shares):
            rows = order[starts[block.start] : starts[block.stop]]
            first, second = table.pairs[rows].T
            scores[rows] = best[first - block.start, second]
            work.advance(block.stop - block.start)
    return scores


def best_interologs(
    interactions: IntArray, shares: csr_array
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the strength of the best interolog of every protein pair, in blocks of rows.

    Args:
        interactions: (E, 2) row numbers of training proteins.
        shares: (P, T) the similarity of each protein to each training protein, mostly 0.

    Yields:
        The rows of the block, and the strengths (rows, P) of their pairs with all proteins.
    """
    count, known = shares.shape
    both = np.concatenate([interactions, interactions[:, ::-1]])
    partners = csr_array((np.ones(len(both), np.float32), tuple(both.T)), shape=(known, known))
    step = max(1, _BLOCK_CELLS // max(known, shares.nnz, count, 1))
    matched = np.flatnonzero(np.diff(shares.indptr))
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        best = np.zeros((block.stop - start, count), np.float32)
        if len(matched):
            products = _reach(shares[block], partners)[:, shares.indices] * shares.data
            best[:, matched] = np.maximum.reduceat(products, shares.indptr[matched], axis=1)
        yield block, best


def _reach(shares: csr_array, partners: csr_array) -> NDArray[np.float32]:
    """Compute each protein's highest similarity to the partners of training proteins, (rows, T)."""
    reach = np.zeros(shares.shape, np.float32)
    cells = shares.tocoo()
    for row, near, share in zip(cells.row, cells.col, cells.data, strict=True):
        of = partners.indices[slice(*partners.indptr[near : near + 2])]
        reach[row, of] = np.maximum(reach[row, of], share)
    return reach
