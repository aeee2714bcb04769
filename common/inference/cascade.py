"""Prefilter the pairs of a grid with a fast model, so that only the best pairs are scored.

All pairs pass through the fast model as a stream, so memory grows only with the number of kept
pairs. Both models score a random sample of all pairs, which shows how many of the model's own best
pairs are lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from common.config import PrefilterConfig
from common.inference.grid_scoring import ScoredPairs
from common.inference.pair_grid import PairGrid
from common.inference.partial_scores import Scores
from common.inference.selection import Best
from common.models.ragged import HostInts
from common.run import on_main_process

# The recall is also estimated for these multiples of the configured share.
WIDER = (3, 10)
# A recall is not estimated from fewer of the best pairs of the sample.
FEWEST = 10
_PLACES = 1 << 22  # positions of the grid that one yielded piece covers


@dataclass(frozen=True)
class Recall:
    """The recall of the prefilter: how many of the model's best pairs of the sample pass.

    Attributes:
        best: The number of best pairs.
        found: The number of best pairs that pass the prefilter.
        wider: The number of best pairs that would pass at larger shares, by share.
    """

    best: int
    found: int
    wider: Mapping[float, int]

    def __str__(self) -> str:
        shares = [f"{at:.3g}: {found / self.best:.0%}" for at, found in self.wider.items()]
        found = f"{self.found / self.best:.0%}"
        if shares:
            found += f"; at a share of {', at '.join(shares)}"
        return f"{self.found} of the model's own best {self.best} ({found})"


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The pairs of a grid that the prefilter has chosen, and a random sample of all pairs.

    Attributes:
        settings: The prefilter's settings.
        pairs: (N, 2) the proteins of the chosen pairs, in the order of the grid.
        sample: (M, 2) the proteins of some random pairs of the grid.
        ranks: (M,) the prefilter's logits of the sample.
        total: The number of pairs of the grid.
        recalls: The prefilter's recalls, once the model has scored the sample.
    """

    settings: PrefilterConfig
    pairs: HostInts
    sample: HostInts
    ranks: Scores
    total: int
    recalls: tuple[Recall, ...] = ()

    def measure(self, logits: Scores) -> Shortlist:
        """Return a copy of the shortlist with the recalls, computed from the model's logits.

        Args:
            logits: (M,) the model's logits of the sample.
        """
        share, count = self.settings.share, len(logits)
        scored = np.isin(_number(self.sample), _number(self.pairs))
        shares = [share * times for times in WIDER if share * times < 1]
        wider = {at: _mark_best(self.ranks, round(at * count)) for at in shares}
        recalls = []
        for size in (max(1, round(share * count)), round(share * count / 10)):
            best = _mark_best(logits, size)
            found = {at: int((best & marked).sum()) for at, marked in wider.items()}
            recalls.append(Recall(size, int((best & scored).sum()), found))
        return replace(self, recalls=tuple(recalls[: 2 if recalls[1].best >= FEWEST else 1]))

    def describe(self) -> str:
        """Describe in two sentences which pairs are scored, and the prefilter's recall."""
        found = " and ".join(map(str, self.recalls))
        return (
            f"Only the {len(self.pairs)} pairs (a share of {self.settings.share:.3g}) that"
            f" {self.settings.checkpoint} ranks highest of all {self.total} pairs are scored and"
            " can be written. Of a random sample of"
            f" {len(self.sample)} pairs, these contain {found}."
        )

    def split(self, logits: Scores, grid: PairGrid) -> Iterator[ScoredPairs]:
        """Yield the chosen pairs with their logits (N,), some rows of the grid at a time."""
        first, second = self.pairs.T
        piece = grid.row_places[first] // max(1, _PLACES // len(grid.columns))
        ends = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(piece)]
        for start, end in itertools.pairwise(ends):
            part = slice(start, end)
            yield ScoredPairs(first[part], second[part], logits[part])


def choose_pairs(
    ranked: Iterator[ScoredPairs],
    total: int,
    settings: PrefilterConfig,
    seed: int,
    accelerator: Accelerator,
) -> Shortlist:
    """Choose the best pairs and a random sample of all pairs, identical on every process.

    Pairs of equal scores are ranked by their position in the grid.

    Args:
        ranked: All pairs of a grid with the logits of the fast model, on the main process.
        total: The number of these pairs, at least one.
        settings: How many pairs are kept, and how many are sampled.
        seed: Determines the sample.
        accelerator: The processes.
    """
    best = Best(max(1, round(settings.share * total)))
    wanted = _draw(total, settings.sample, seed)
    sample: list[ScoredPairs] = []
    seen = 0
    for pairs in ranked:
        end = seen + len(pairs.logits)
        own = wanted[np.searchsorted(wanted, seen) : np.searchsorted(wanted, end)]
        sample.append(pairs.select(own - seen))
        best.hold(pairs)
        seen = end

    def collect() -> Shortlist:
        first, second, ranks = map(np.concatenate, zip(*sample, strict=True))
        chosen = np.stack(best.best()[:2], axis=1)
        return Shortlist(settings, chosen, np.stack([first, second], axis=1), ranks, total)

    return on_main_process(accelerator, collect)


def _draw(total: int, count: int, seed: int) -> HostInts:
    """Draw `count` distinct indices below `total`, ascending, or return all if there are fewer."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False, shuffle=False))


def _number(pairs: HostInts) -> HostInts:
    """Encode each pair of (N, 2) as a unique integer."""
    numbers: HostInts = (pairs[:, 0] << 32) | pairs[:, 1]
    return numbers


def _mark_best(logits: Scores, count: int) -> NDArray[np.bool_]:
    """Mark the `count` highest logits of (M,); among equal logits, the first are marked."""
    marked = np.zeros(len(logits), dtype=np.bool_)
    marked[np.argsort(-logits, kind="stable")[:count]] = True
    return marked
