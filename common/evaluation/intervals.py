"""Confidence intervals for metrics of labelled pairs, from a bootstrap that resamples proteins.

Pairs that share a protein are not independent, so 7,000 test pairs of 400 proteins carry less
information than 7,000 independent pairs. Therefore each resample draws as many proteins as the test
has, with replacement, and weights a pair by the product of its two proteins' multiplicities: the
"pigeonhole" bootstrap (Owen, Annals of Applied Statistics 1, 2007, 386–411). A self-pair observes
one protein, so its weight is the multiplicity of that protein. (The squared multiplicity would be 2
on average, against 1 for other pairs, so self-pairs would be overrepresented in the resamples.)

The interval extends from the 2.5th to the 97.5th percentile of the metric over the resamples. The
interval is conservative: if pairs that share a protein are in fact independent, it is about √3
times as wide as necessary.

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
_AT_A_TIME = 1 << 18  # so many weights of pairs fit into a processor's cache

Measured = Mapping[str, Values]  # (R,) values of each metric, NaN where it is undefined


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Labelled pairs with their scores and the decision threshold.

    Attributes:
        pairs: (N, 2) row numbers of proteins.
        labels: (N,) 0 or 1.
        scores: (N,) float64, finite.
        threshold: The lowest score of a predicted interaction.
    """

    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]
    scores: NDArray[np.float64]
    threshold: float

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.bool_]) -> ScoredPairs:
        """Return the pairs that a mask (N,) selects; proteins keep their row numbers."""
        return ScoredPairs(self.pairs[rows], self.labels[rows], self.scores[rows], self.threshold)


@dataclass(frozen=True)
class Interval:
    """The percentile interval of a metric, or of the difference between two metrics.

    Attributes:
        low: The 2.5th percentile.
        high: The 97.5th percentile.
        undefined: The number of resamples in which the metric is undefined, for example because all
            pairs have the same label.
    """

    low: float
    high: float
    undefined: int

    @classmethod
    def of(cls, values: Values) -> Interval | None:
        """Compute the interval of a metric's values in all resamples, (R,); None if all are NaN."""
        defined = values[~np.isnan(values)]
        if not len(defined):
            return None
        outside = (1 - LEVEL) / 2
        low, high = np.quantile(defined, [outside, 1 - outside]).tolist()
        return cls(low, high, len(values) - len(defined))


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of proteins, drawn with replacement.

    Attributes:
        counts: (R, P + 1) the multiplicities of the P proteins in each of the R resamples; the last
            column is 1.
    """

    counts: NDArray[np.integer]

    @classmethod
    def draw(cls, table: PairTable, count: int, seed: int) -> Resamples:
        """Draw `count` resamples, each with as many proteins as the table."""
        proteins = len(table.proteins)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(proteins, np.full(proteins, 1 / proteins), size=count)
        # The type must hold the sums of weights that `Ranking` computes; int32 is twice as fast.
        most = len(table) * int(drawn.max(initial=1)) ** 2
        kind = np.int32 if 2 * most < np.iinfo(np.int32).max else np.int64
        return cls(np.pad(drawn, [(0, 0), (0, 1)], constant_values=1).astype(kind))

    def measure(self, scored: ScoredPairs) -> Measured:
        """Compute every metric on every resample; return arrays (R,) by the metrics' names."""
        if not len(scored):
            return {name: np.full(len(self.counts), np.nan) for name in METRIC_NAMES}
        ranking = Ranking.of(scored.scores, scored.labels, scored.threshold)
        first, second = scored.pairs[ranking.order].T
        # For a self-pair, the column of ones replaces the second protein.
        second = np.where(first == second, self.counts.shape[1] - 1, second)
        blocks = math.ceil(len(self.counts) * len(scored) / _AT_A_TIME)
        parts = [
            ranking.measure(np.take(counts, first, axis=1) * np.take(counts, second, axis=1))
            for counts in np.array_split(self.counts, max(1, min(blocks, len(self.counts))))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
