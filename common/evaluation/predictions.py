"""Store the predictions of any predictor, with one score for each listed pair.

Pairs are normalised as follows, and a note counts the pairs that change:

- the two proteins of a pair may be in either order, and repeats with the same score count once;
- if a pair has several scores, the highest counts, because one positive line of a pair is enough
  for an edge in the benchmark;
- a pair with the score NaN, like a pair that is not listed, counts as not predicted.

`prediction_file` reads and writes files of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import number_ids, places_of
from common.errors import count_of
from common.evaluation.networks import FloatArray, IntArray, Network, pair_keys

Codes = NDArray[np.int32]

CALL = 0.5  # with this threshold, lines with the label 1 or p_positive > p_negative are edges


@dataclass(frozen=True, eq=False)
class Predictions:
    """The scores of distinct, undirected pairs of proteins.

    Attributes:
        ids: The protein ids, sorted and distinct.
        pairs: (P, 2) int32 indices into `ids`, smaller index first, rows sorted and distinct.
        scores: (P,) float64, never NaN; a higher score means a more likely interaction.
        notes: Sentences about merged and ignored pairs.
    """

    ids: tuple[str, ...]
    pairs: Codes
    scores: FloatArray
    notes: tuple[str, ...] = ()

    @classmethod
    def gather(
        cls,
        ids: Sequence[str],
        pairs: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
        notes: Sequence[str] = (),
    ) -> Predictions:
        """Merge scored pairs, which may repeat and be in any order, into distinct pairs.

        Args:
            ids: Distinct protein ids.
            pairs: (N, 2) indices into `ids`.
            scores: (N,) scores, NaN for not predicted.
            notes: Earlier notes, which are placed before the notes about merging.
        """
        proteins, places = number_ids(ids)
        scored = ~np.isnan(scores)
        first, second = places[pairs[scored].reshape(-1, 2)].T
        keys = pair_keys(first, second, len(ids))
        merged = _merge(keys, scores[scored].astype(np.float64))
        codes = np.stack(np.divmod(merged.keys, max(len(ids), 1)), axis=1).astype(np.int32)
        remarks = [*notes, *_nan_note(int((~scored).sum())), *merged.notes()]
        return cls(proteins, codes, merged.scores, tuple(remarks))

    def edges(self, threshold: float = CALL) -> Network:
        """Return the network of all proteins, with the pairs that score ≥ `threshold` as edges."""
        return Network.from_indices(self.ids, self.pairs[self.scores >= threshold])

    def scores_of(self, names: Sequence[str], pairs: NDArray[np.integer[Any]]) -> FloatArray:
        """Return the scores of the given pairs, (N,) float64; NaN for pairs that are not listed.

        Args:
            names: Protein ids.
            pairs: (N, 2) indices into `names`.
        """
        ends = places_of(names, self.ids)[pairs].reshape(-1, 2).T
        found = np.full(ends.shape[1], np.nan)
        if not len(self.pairs):
            return found
        keys = pair_keys(self.pairs[:, 0], self.pairs[:, 1], len(self.ids))
        wanted = pair_keys(ends[0], ends[1], len(self.ids))
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        listed = (keys[places] == wanted) & (ends.min(axis=0) >= 0)
        found[listed] = self.scores[places[listed]]
        return found


class _Merged(NamedTuple):
    """Distinct pair keys in ascending order, each key's highest score, and counts of repeats."""

    keys: IntArray
    scores: FloatArray
    repeats: int
    contradictions: int

    def notes(self) -> list[str]:
        notes = []
        if self.repeats:
            notes.append(
                f"{count_of(self.repeats, 'line repeats', 'lines repeat')} a pair with the same"
                " score; each pair counts once"
            )
        if self.contradictions:
            notes.append(
                f"{count_of(self.contradictions, 'pair is', 'pairs are')} listed with different"
                " scores; the highest score counts"
            )
        return notes


def _merge(keys: IntArray, scores: FloatArray) -> _Merged:
    if (keys[1:] > keys[:-1]).all():  # as in the prediction files that RELIC writes
        return _Merged(keys, scores, 0, 0)
    order = np.lexsort((scores, keys))
    keys, scores = keys[order], scores[order]
    same_pair = keys[1:] == keys[:-1]
    same_score = same_pair & (scores[1:] == scores[:-1])
    contradictory = np.unique(keys[1:][same_pair & ~same_score])
    last = np.append(~same_pair, True)
    return _Merged(keys[last], scores[last], int(same_score.sum()), len(contradictory))


def _nan_note(count: int) -> list[str]:
    lines = count_of(
        count, "line has the score NaN and counts", "lines have the score NaN and count"
    )
    return [f"{lines} as not predicted"] if count else []
