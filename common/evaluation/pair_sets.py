"""Sets of pairs that tasks use, and notes on pairs without a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import places_of
from common.errors import count_of
from common.evaluation.networks import IntArray, pair_keys
from common.evaluation.predictions import Predictions


class Remark(str):
    """A note that is logged as information, not as a warning."""


@dataclass(frozen=True, eq=False)
class PairSet:
    """A named set of protein pairs that a task uses.

    Attributes:
        name: The name of the set in notes; sets with the same name contain the same pairs.
        proteins: Distinct protein ids.
        pairs: (N, 2) indices into `proteins`; None for all pairs, self-pairs included.
    """

    name: str
    proteins: tuple[str, ...]
    pairs: IntArray | None = None

    def rows(self) -> IntArray:
        """Return all pairs of the set, (N, 2) indices into `proteins`."""
        if self.pairs is not None:
            return self.pairs
        return np.stack(np.triu_indices(len(self.proteins)), axis=1)

    def among(self, predictions: Predictions) -> NDArray[np.bool_]:
        """Return which of the predicted pairs belong to this set, as a mask (P,)."""
        first, second = places_of(predictions.ids, self.proteins)[predictions.pairs].T
        known: NDArray[np.bool_] = (first >= 0) & (second >= 0)
        if self.pairs is None:
            return known
        count, (left, right) = len(self.proteins), self.pairs.T
        return known & np.isin(pair_keys(first, second, count), pair_keys(left, right, count))

    def describe_coverage(self, predictions: Predictions) -> list[str]:
        """Return notes about pairs without a score and about self-pairs in a whole network."""
        found, count = self.among(predictions), len(self.proteins)
        total = count * (count + 1) // 2 if self.pairs is None else len(self.pairs)
        notes = explain_missing(total - int(found.sum()), total, self.name)
        loops = int((found & (predictions.pairs[:, 0] == predictions.pairs[:, 1])).sum())
        if self.pairs is None and loops:
            one = f"listed pair of {self.name} is a self-pair; it counts like other pairs"
            several = f"listed pairs of {self.name} are self-pairs; they count like other pairs"
            note = count_of(loops, one, several)
            notes.append(Remark(note))
        return notes


def explain_missing(missing: int, total: int, where: str) -> list[str]:
    """Return a note on how many pairs have no score, or an empty list if no score is missing."""
    if not missing:
        return []
    if missing == total:
        return [f"none of the {total} pairs of {where} has a score, so all count as not predicted"]
    return [f"{missing} of {total} pairs of {where} have no score and count as not predicted"]
