"""Plan a scoring: divide the distinct undirected pairs into tiles of pairs with common proteins.

A plan depends only on the pairs and the proteins' lengths, never on the number of processes or on
what was scored before, so that a pair is always computed together with the same other pairs.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.models.ragged import HostInts, cut

# The cost of a pair of lengths a and b is a b + LINEAR (a + b): attention grows with the product,
# everything else with the sum. At v3's width d, the terms are equal for LINEAR = 3 d.
LINEAR = 512


@dataclass(frozen=True)
class Tiles:
    """The plan of a scoring: the distinct pairs, tile by tile.

    Attributes:
        pairs: (M, 2) proteins of each distinct pair, the longer one first.
        slices: The slice of `pairs` of each tile.
        places: (N,) the index into `pairs` of each requested pair.
        costs: One number per tile, proportional to its work.
    """

    pairs: HostInts
    slices: list[slice]
    places: HostInts
    costs: NDArray[np.float64]

    def proteins(self, tiles: Sequence[int] | None = None) -> HostInts:
        """Return the distinct proteins of these tiles, or of all tiles."""
        if tiles is None:
            return np.unique(self.pairs)
        return np.unique(np.concatenate([self.pairs[self.slices[tile]] for tile in tiles]))

    def deal(self, tiles: Sequence[int], processes: int) -> list[list[int]]:
        """Assign tiles to processes: the costliest first, each to the least loaded process."""
        hands: list[list[int]] = [[] for _ in range(processes)]
        loads = [(0.0, rank) for rank in range(processes)]
        for tile in sorted(tiles, key=lambda tile: -self.costs[tile]):
            load, rank = heapq.heappop(loads)
            hands[rank].append(tile)
            heapq.heappush(loads, (load + float(self.costs[tile]), rank))
        return hands


def plan_tiles(pairs: HostInts, lengths: HostInts, tile_residues: int) -> Tiles:
    """Divide pairs into tiles of at most `tile_residues` residues, summed over both proteins.

    Proteins are ranked by length. A stripe contains the pairs of which the longer partner is one of
    a few proteins of neighbouring rank; along a stripe the shorter partner's rank rises. If all
    pairs of a set are scored, a tile thus contains all pairs of a few proteins with a few others;
    otherwise its proteins at least have similar lengths.

    Args:
        pairs: (N, 2) protein numbers; pairs may repeat, in either order.
        lengths: (P,) rows of each protein.
        tile_residues: The size of a tile; a longer pair is a separate tile.
    """
    by_length = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(by_length)
    rank[by_length] = np.arange(len(by_length))
    ranks = np.sort(rank[pairs.reshape(-1, 2)], axis=1)
    keys, places = np.unique(ranks[:, 0] * len(lengths) + ranks[:, 1], return_inverse=True)
    distinct = np.stack(np.divmod(keys, len(lengths)), axis=1)
    order = _along_stripes(distinct, _stripe_height(lengths[by_length][distinct], tile_residues))
    moved_to = np.empty_like(order)
    moved_to[order] = np.arange(len(order))
    planned = by_length[distinct[order]]
    sizes = lengths[planned].astype(np.float64)
    slices = cut(lengths[planned].sum(1), tile_residues)
    work = sizes.prod(1) + LINEAR * sizes.sum(1)
    costs = np.array([work[piece].sum() for piece in slices])
    return Tiles(planned, slices, moved_to[places], costs)


def _stripe_height(sizes: HostInts, tile_residues: int) -> int:
    """Choose the height of a stripe that makes tiles square if all pairs of a set are scored."""
    pairs = tile_residues * len(sizes) / max(int(sizes.sum()), 1)
    return max(1, round(math.sqrt(pairs)))


def _along_stripes(ranks: HostInts, height: int) -> HostInts:
    return np.lexsort((ranks[:, 0], ranks[:, 1], ranks[:, 0] // height))
