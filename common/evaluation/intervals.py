"""Intervals for metrics of labelled pairs, from a bootstrap that draws proteins.

Pairs that share a protein are alike, so a test of 7,000 pairs of 400 proteins says less than 7,000
independent pairs would. Therefore proteins are drawn with replacement, as many as there are, and a
pair counts as often as the product of its two proteins' multiplicities: the "pigeonhole" bootstrap
(Owen, Annals of Applied Statistics 1, 2007, 386–411). A self-pair is the observation of one
protein, so it counts as often as that protein was drawn. (With the square, self-pairs would count
twice on average and other pairs once, and a resample would not resemble the test.)

The interval is from the 2.5th to the 97.5th percentile of the metric over the resamples. It is
cautious: where the pairs of a protein are independent after all, it is about √3 times as wide as
necessary.

    resamples = Resamples.draw(table, count=1000, seed=47)
    of_model = resamples.measure(ScoredPairs(table.pairs, table.labels, scores, threshold))
    of_other = resamples.measure(ScoredPairs(table.pairs, table.labels, others, other_threshold))
    Interval.of(of_model["auroc"])
    Interval.of(of_model["auroc"] - of_other["auroc"])  # of the difference, on the same resamples
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config_data import METRIC_NAMES
from common.data.tables.pairs import PairTable
from common.inference.pair_metrics import Ranking, Values

LEVEL = 0.95
_AT_A_TIME = 1 << 18  # this many weights of pairs fit into a processor's cache

Measured = Mapping[str, Values]  # (R,) values of each metric, NaN where it is undefined


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Labelled pairs with scores, and the score from which a pair is called an interaction.

    Attributes:
        pairs: (N, 2) row numbers of proteins.
        labels: (N,) 0 or 1.
        scores: (N,) float64, finite.
        threshold: The lowest score that is called an interaction.
    """

    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    threshold: float

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.bool_]) -> ScoredPairs:
        """Return the pairs under a mask; proteins keep their row numbers."""
        return ScoredPairs(self.pairs[rows], self.labels[rows], self.scores[rows], self.threshold)


@dataclass(frozen=True)
class Interval:
    """The percentile interval of a metric, or of a difference.

    Attributes:
        low: The 2.5th percentile.
        high: The 97.5th percentile.
        undefined: How many resamples gave no value, such as those with pairs of one class only.
    """

    low: float
    high: float
    undefined: int

    @classmethod
    def of(cls, values: Values) -> Interval | None:
        """Compute the interval of values over resamples, (R,); None if all are undefined (NaN)."""
        defined = values[~np.isnan(values)]
        if not len(defined):
            return None
        outside = (1 - LEVEL) / 2
        low, high = np.quantile(defined, [outside, 1 - outside]).tolist()
        return cls(low, high, len(values) - len(defined))


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws of proteins with replacement.

    Attributes:
        counts: (R, P + 1) how often each resample has each of P proteins; the last column is 1.
    """

    counts: NDArray[np.integer]

    @classmethod
    def draw(cls, table: PairTable, count: int, seed: int) -> Resamples:
        """Draw `count` resamples, each of as many proteins as the table has."""
        proteins = len(table.proteins)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(proteins, np.full(proteins, 1 / proteins), size=count)
        # The type has to hold the sums of weights that `Ranking` makes; int32 is twice as fast.
        most = len(table) * int(drawn.max(initial=1)) ** 2
        kind = np.int32 if 2 * most < np.iinfo(np.int32).max else np.int64
        return cls(np.pad(drawn, [(0, 0), (0, 1)], constant_values=1).astype(kind))

    def measure(self, scored: ScoredPairs) -> Measured:
        """Compute every metric of some of the table's pairs on every resample, (R,) by name."""
        if not len(scored):
            return {name: np.full(len(self.counts), np.nan) for name in METRIC_NAMES}
        ranking = Ranking.of(scored.scores, scored.labels, scored.threshold)
        first, second = scored.pairs[ranking.order].T
        # A self-pair takes the column of ones instead of its second protein.
        second = np.where(first == second, self.counts.shape[1] - 1, second)
        blocks = math.ceil(len(self.counts) * len(scored) / _AT_A_TIME)
        parts = [
            ranking.measure(np.take(counts, first, axis=1) * np.take(counts, second, axis=1))
            for counts in np.array_split(self.counts, max(1, min(blocks, len(self.counts))))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
