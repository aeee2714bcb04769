"""Select the pairs to keep from a stream of scored pairs: all, the likely or the best pairs.

A selection takes pairs as they are scored and yields the pairs to keep, at once or at the end, in
the order of scoring. Its memory does not grow with the number of scored pairs. Among equal scores
the order of the proteins decides, so that nothing depends on chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.inference.grid_scoring import ScoredPairs
from common.inference.pair_grid import PairGrid
from common.inference.partial_scores import Scores
from common.inference.scoring import probabilities
from common.inference.thresholds import call_pairs
from common.inference.wish import Wish
from common.models.ragged import HostInts

Keys = NDArray[np.uint64]

_LOW = np.uint64(0xFFFFFFFF)
# The number of collected pairs that a selection yields at a time.
_PIECE = 1 << 20
_SPARE = 1 << 20


class Selection(Protocol):
    """Interface of the selections, which take scored pairs and yield the pairs to keep."""

    def take(self, pairs: ScoredPairs) -> Iterator[ScoredPairs]:
        """Take the next scored pairs, and yield the pairs that are certain to be kept."""

    def finish(self) -> Iterator[ScoredPairs]:
        """Yield the remaining pairs to keep, after all scored pairs have been taken."""


@dataclass
class Likely:
    """Keeps the pairs whose probability reaches a threshold, or all pairs without a threshold."""

    threshold: float | None = None

    def take(self, pairs: ScoredPairs) -> Iterator[ScoredPairs]:
        """Yield the pairs whose probability reaches the threshold."""
        yield pairs if self.threshold is None else select_called(pairs, self.threshold)

    def finish(self) -> Iterator[ScoredPairs]:
        """Yield nothing, because `take` has already yielded all pairs to keep."""
        yield from ()


@dataclass
class Best:
    """Keeps the `count` best pairs; among pairs of equal scores, the first ones are kept.

    Attributes:
        count: The number of pairs to keep.
        threshold: The lowest probability of a kept pair, if there is a limit.
    """

    count: int
    threshold: float | None = None
    _held: list[ScoredPairs] = field(default_factory=list)
    _lowest: float = -math.inf

    def take(self, pairs: ScoredPairs) -> Iterator[ScoredPairs]:
        """Store the pairs that may be among the best, and yield nothing yet."""
        if self.threshold is not None:
            pairs = select_called(pairs, self.threshold)
        self.hold(pairs)
        yield from ()

    def finish(self) -> Iterator[ScoredPairs]:
        """Yield the best pairs in the order in which they were scored."""
        if self._held:
            yield from _pieces(self.best())

    def hold(self, pairs: ScoredPairs) -> None:
        """Store the pairs that may be among the best."""
        self._held.append(pairs.select(pairs.logits > self._lowest))
        if sum(len(piece.logits) for piece in self._held) > self.count + _SPARE:
            self.best()

    def best(self) -> ScoredPairs:
        """Discard all stored pairs except the best, and return the best in order of scoring."""
        pairs = ScoredPairs(*map(np.concatenate, zip(*self._held, strict=True)))
        surplus = len(pairs.logits) - self.count
        if surplus > 0:
            self._lowest = float(np.partition(pairs.logits, surplus)[surplus])
            better = pairs.logits > self._lowest
            equal = np.flatnonzero(pairs.logits == self._lowest)[: self.count - better.sum()]
            better[equal] = True
            pairs = pairs.select(better)
        self._held = [pairs]
        return pairs


class BestPartners:
    """Keeps the `count` best pairs of every protein that has a row, without duplicates.

    Each partner of a protein is stored as one integer, whose upper half sorts like the logit and
    whose lower half is the partner, so that one partition finds the best partners.

    Args:
        count: The number of partners to keep for each protein.
        grid: The pairs that are scored.
        threshold: The lowest probability of a kept pair, if there is a limit.
    """

    def __init__(self, count: int, grid: PairGrid, threshold: float | None = None) -> None:
        self.count, self.grid, self.threshold = count, grid, threshold
        self.keys: Keys = np.zeros((len(grid.rows), count), np.uint64)
        self.lowest: Keys = np.zeros(len(grid.rows), np.uint64)

    def take(self, pairs: ScoredPairs) -> Iterator[ScoredPairs]:
        """Store the pairs that are among the best of one of their proteins; yield nothing yet."""
        if self.threshold is not None:
            pairs = select_called(pairs, self.threshold)
        if len(pairs.logits):
            self._take(pairs)
        yield from ()

    def _take(self, pairs: ScoredPairs) -> None:
        grid, places = self.grid, self.grid.row_places[pairs.first]
        first, end = int(places.min()), int(places.max()) + 1
        block = np.zeros((end - first, len(grid.columns)), np.uint64)
        ordered = _to_ordered(pairs.logits)
        columns = grid.column_places[pairs.second]
        block[places - first, columns] = ordered | (_LOW - pairs.second.astype(np.uint64))
        self._merge(np.arange(first, end), block)
        # The same pairs count for their second protein if it has a row and the first a column.
        owners = grid.row_places[grid.columns]
        mirrored = (owners[columns] < len(grid.rows)) & (
            grid.column_places[pairs.first] < len(grid.columns)
        )
        mirrored &= pairs.first != pairs.second
        block[:] = 0
        block[places[mirrored] - first, columns[mirrored]] = ordered[mirrored] | (
            _LOW - pairs.first[mirrored].astype(np.uint64)
        )
        has_row = owners < len(grid.rows)
        self._merge(owners[has_row], block.T[has_row])

    def _merge(self, rows: HostInts, block: Keys) -> None:
        """Merge candidates (n, m) into the best partners of n rows; a 0 is not a candidate."""
        # After a few stripes, hardly any candidate is better than the stored partners.
        row, column = np.nonzero(block > self.lowest[rows, None])
        if not len(row):
            return
        changed, counts = np.unique(row, return_counts=True)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        better = np.zeros((len(changed), int(counts.max())), np.uint64)
        better[np.repeat(np.arange(len(changed)), counts), slot] = block[row, column]
        both = np.concatenate([self.keys[rows[changed]], better], axis=1)
        kept = np.partition(both, both.shape[1] - self.count)[:, -self.count :]
        self.keys[rows[changed]] = kept
        self.lowest[rows[changed]] = kept.min(axis=1)

    def finish(self) -> Iterator[ScoredPairs]:
        """Yield the pairs to keep, sorted by row and column."""
        grid = self.grid
        row, slot = np.nonzero(self.keys)
        keys = self.keys[row, slot]
        owner, partner = grid.rows[row], (_LOW - (keys & _LOW)).astype(np.int64)
        mirrored = (grid.row_places[partner] < row) & (
            grid.column_places[owner] < len(grid.columns)
        )
        first, second = np.where(mirrored, (partner, owner), (owner, partner))
        place = grid.row_places[first] * len(grid.columns) + grid.column_places[second]
        _, kept = np.unique(place, return_index=True)
        yield from _pieces(ScoredPairs(first[kept], second[kept], _from_ordered(keys[kept])))


def select_of_grid(wish: Wish, grid: PairGrid) -> Selection:
    """Create the selection that applies the user's limits to the pairs of a grid."""
    if wish.top_k is not None:
        return BestPartners(min(wish.top_k, len(grid.columns)), grid, wish.threshold)
    return select_of_list(wish, grid.count)


def select_of_list(wish: Wish, count: int) -> Selection:
    """Create the selection that applies the user's limits to a list of `count` pairs."""
    if wish.top_k is not None:
        return Best(wish.top_k, wish.threshold)
    if wish.density is not None:
        return Best(max(1, round(wish.density * count)))
    return Likely(wish.threshold)


def select_called(pairs: ScoredPairs, threshold: float) -> ScoredPairs:
    """Return the pairs whose probability reaches the threshold."""
    called = call_pairs(probabilities(pairs.logits), threshold)
    return pairs.select(called)


def _pieces(pairs: ScoredPairs) -> Iterator[ScoredPairs]:
    for start in range(0, len(pairs.logits), _PIECE):
        yield pairs.select(slice(start, start + _PIECE))


def _to_ordered(logits: Scores) -> Keys:
    """Convert logits to non-zero integers of the same order that use only the upper 32 bits."""
    bits = (logits + np.float32(0)).view(np.uint32)  # The sum turns -0 into 0.
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    return ordered.astype(np.uint64) << np.uint64(32)


def _from_ordered(keys: Keys) -> Scores:
    """Convert the integers of `_to_ordered` back to logits."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    positive = ordered >> 31 == 1
    bits = np.where(positive, ordered & np.uint32((1 << 31) - 1), ~ordered)
    return bits.view(np.float32)
