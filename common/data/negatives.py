"""Draws negatives: pairs of proteins that are not known to interact.

A free pair is a pair that may be drawn. `uniform` draws every free pair with the same probability.
`degree` draws each protein as often as the positives contain the protein, with partners of similar
degrees, so that a protein's number of partners alone predicts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from common.config_data import NegativesConfig
from common.data.tables.ids import places_of
from common.errors import UserError

if TYPE_CHECKING:  # It imports file libraries that batches do not need.
    from common.data.tables.pairs import PairTable

Draw = Literal["uniform", "degree"]
Pairs = NDArray[np.int64]
Codes = NDArray[np.int64]

_PER_POSITIVE = "data_config.dataloader.sampling.negatives.per_positive"

# The spread of the log degrees of exchanged partners, and its growth factor per round.
_SPREAD = 0.1
_WIDENING = 1.5
_ROUNDS = 12
# For each pair that must change, this many other pairs change as well.
_MIXED_IN = 3
# If more than this fraction of all pairs is taken or requested, all free pairs are listed.
_DENSE = 0.25


def encode_pairs(pairs: Pairs, proteins: int) -> Codes:
    """Encode each unordered pair of protein numbers as one number, its code (N,)."""
    codes: Codes = pairs.min(1) * proteins + pairs.max(1)
    return codes


@dataclass(frozen=True, eq=False)
class Negatives:
    """Draws negative pairs among proteins that are numbered 0, 1, …, `proteins` - 1.

    Attributes:
        proteins: The number of proteins.
        positives: (P, 2) the positives whose protein degrees `degree` reproduces.
        known: Sorted, distinct codes of the pairs that are never drawn.
        self_pairs: Whether a protein may be paired with itself.
    """

    proteins: int
    positives: Pairs
    known: Codes
    self_pairs: bool = False

    @classmethod
    def of_table(
        cls, table: PairTable, others: Iterable[PairTable] = (), self_pairs: bool = False
    ) -> Negatives:
        """Prepare to draw negatives for a table, excluding the positives of all given tables."""
        known = [positive_codes(other, table.proteins) for other in (table, *others)]
        positives = table.pairs[table.labels == 1]
        return cls(len(table.proteins), positives, np.unique(np.concatenate(known)), self_pairs)

    @property
    def free(self) -> int:
        """The number of pairs that can be drawn as negatives."""
        if self.self_pairs:
            return self.proteins * (self.proteins + 1) // 2 - len(self.known)
        others = self.known // self.proteins != self.known % self.proteins
        return self.proteins * (self.proteins - 1) // 2 - int(others.sum())

    def draw(self, count: int, draw: Draw, rng: np.random.Generator, setting: str) -> Pairs:
        """Draw negatives: distinct pairs (count, 2) in random order, the smaller number first.

        With `degree`, every protein occurs as often as in `count` positives (all positives as many
        times as `count` allows, then a random part). A protein with too few free partners occurs
        less often, and random pairs make up the difference.

        Args:
            count: The number of pairs to draw.
            draw: How the pairs are chosen.
            rng: The random generator.
            setting: The configuration key that sets the number, for the message.

        Raises:
            UserError: There are fewer than `count` free pairs.
        """
        self.check(count, setting)
        if draw == "uniform" or not len(self.positives):
            return self._decode(self._draw_uniform(count, self.known, rng))
        drawn = self._draw_by_degree(count, rng)
        taken = np.sort(np.concatenate([self.known, drawn]))
        filling = self._draw_uniform(count - len(drawn), taken, rng)
        return self._decode(rng.permutation(np.concatenate([drawn, filling])))

    def check(self, count: int, setting: str) -> None:
        """Check that there are at least `count` free pairs.

        Raises:
            UserError: There are too few pairs; the message names the key that sets the number.
        """
        if count > self.free:
            raise UserError(
                f"{setting} asks for {count} negatives, but only {self.free} pairs of the"
                f" {self.proteins} proteins are not known to interact; lower {setting}"
            )

    def _decode(self, codes: Codes) -> Pairs:
        return np.stack(np.divmod(codes, self.proteins), axis=1)

    def _draw_uniform(self, count: int, taken: Codes, rng: np.random.Generator) -> Codes:
        """Draw `count` distinct random pairs, as codes, that are not in the sorted `taken`."""
        every = self.proteins * (self.proteins + 1) // 2
        if count + len(taken) > _DENSE * every:
            rows, columns = np.triu_indices(self.proteins, 0 if self.self_pairs else 1)
            free = np.setdiff1d(rows * self.proteins + columns, taken, assume_unique=True)
            return rng.permutation(free)[:count]
        drawn: Codes = np.empty(0, np.int64)
        while len(drawn) < count:
            # At most a quarter is taken, so twice the number is nearly always enough.
            size = (2 * (count - len(drawn)) + 16, 2)
            pairs = np.sort(rng.integers(self.proteins + self.self_pairs, size=size), axis=1)
            pairs = pairs[pairs[:, 0] < pairs[:, 1]]
            # With self-pairs, n numbers form as many pairs as n + 1 numbers without self-pairs.
            pairs[:, 1] -= self.self_pairs
            drawn = np.concatenate([drawn, encode_pairs(pairs, self.proteins)])
            drawn = drawn[self._usable(drawn, taken)]
        return drawn[:count]

    def _draw_by_degree(self, count: int, rng: np.random.Generator) -> Codes:
        """Draw up to `count` pairs, as codes, by exchanging partners of similar degree."""
        degrees = np.bincount(self.positives.ravel(), minlength=self.proteins)
        logs = np.log(np.maximum(degrees, 1))
        pairs = self.positives[cycle(rng, np.arange(len(self.positives)), count)]
        codes, mixed = np.empty(count, np.int64), np.arange(count)
        for spread in _SPREAD * _WIDENING ** np.arange(_ROUNDS):
            pairs[mixed] = _change_partners(pairs[mixed], logs, spread, rng)
            codes[mixed] = encode_pairs(pairs[mixed], self.proteins)
            taken = np.sort(np.concatenate([self.known, np.delete(codes, mixed)]))
            left = mixed[~self._usable(codes[mixed], taken)]
            if not len(left):
                break
            chosen = np.zeros(count, np.bool_)
            chosen[left] = chosen[rng.integers(count, size=_MIXED_IN * len(left))] = True
            mixed = np.flatnonzero(chosen)
        return np.delete(codes, left)

    def _usable(self, codes: Codes, taken: Codes) -> NDArray[np.bool_]:
        """Return a mask of the codes that are free and do not occur earlier in the array."""
        # Each number includes the code's place: sorting is several times faster than `argsort`.
        ordered, order = np.divmod(np.sort(codes * len(codes) + np.arange(len(codes))), len(codes))
        bad = np.zeros(len(codes), np.bool_)
        bad[1:] = ordered[1:] == ordered[:-1]
        bad |= contains(taken, ordered)
        if not self.self_pairs:
            bad |= ordered // self.proteins == ordered % self.proteins
        usable = np.empty(len(codes), np.bool_)
        usable[order] = ~bad
        return usable


def _change_partners(
    pairs: Pairs, logs: NDArray[np.float64], spread: float, rng: np.random.Generator
) -> Pairs:
    """Replace one protein of each pair by another protein of similar (logarithmic) degree."""
    sides = rng.integers(2, size=len(pairs))
    rows = np.arange(len(pairs))
    kept, given = pairs[rows, sides], pairs[rows, 1 - sides]
    giving, taking = (
        np.argsort(logs[given] + spread * rng.standard_normal(len(pairs))) for _ in range(2)
    )
    changed = np.empty_like(pairs)
    changed[:, 0] = kept
    changed[taking, 1] = given[giving]
    return changed


@dataclass(frozen=True, eq=False)
class Resampling:
    """The positives of a table, with new negatives drawn for every epoch.

    The negatives depend only on the seed and the epoch, so all processes and resumed runs draw the
    same negatives.

    Attributes:
        table: The pairs of the file; its negatives are left out.
        negatives: Draws the negatives.
        settings: How many negatives are drawn for each positive, and how.
        seed: Determines the negatives, together with the epoch.
    """

    table: PairTable
    negatives: Negatives
    settings: NegativesConfig
    seed: int
    _latest: dict[int, PairTable] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, table: PairTable, others: Iterable[PairTable], settings: NegativesConfig, seed: int
    ) -> Resampling:
        """Prepare to replace a table's negatives, never drawing a positive of any given table.

        Raises:
            UserError: There are no positives, or fewer free pairs than an epoch needs.
        """
        resampling = cls(table, Negatives.of_table(table, others), settings, seed)
        if not len(resampling.negatives.positives):
            raise UserError(
                "data_config.dataloader.sampling.negatives.source: resampled needs positive"
                " training pairs, but there are none; check the labels of the training pairs"
            )
        resampling.negatives.check(resampling.count, _PER_POSITIVE)
        return resampling

    @property
    def count(self) -> int:
        """The number of negatives in an epoch."""
        return max(1, round(self.settings.per_positive * len(self.negatives.positives)))

    def __len__(self) -> int:
        """Return the number of pairs in an epoch."""
        return len(self.negatives.positives) + self.count

    def at(self, epoch: int) -> PairTable:
        """Return the pairs of an epoch: all positives, then the negatives drawn for this epoch."""
        if epoch not in self._latest:
            # The third number makes these draws independent of the draws of the pairs' order.
            rng = np.random.default_rng((self.seed, epoch, 1))
            drawn = self.negatives.draw(self.count, self.settings.draw, rng, _PER_POSITIVE)
            pairs = np.concatenate([self.negatives.positives, drawn])
            labels = np.repeat(np.array([1, 0], np.int8), [len(pairs) - len(drawn), len(drawn)])
            self._latest.clear()
            self._latest[epoch] = replace(self.table, pairs=pairs, labels=labels)
        return self._latest[epoch]


def contains(ordered: Codes, codes: Codes) -> NDArray[np.bool_]:
    """Return a mask of the `codes` that occur in the sorted array `ordered`."""
    if not len(ordered):
        return np.zeros(len(codes), np.bool_)
    place = np.minimum(np.searchsorted(ordered, codes), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == codes
    return found


def cycle(rng: np.random.Generator, rows: Pairs, count: int) -> Pairs:
    """Return `count` rows in random order, repeating no row before all rows have been used."""
    repeats = -(-count // len(rows)) if count else 1
    return np.concatenate([rng.permutation(rows) for _ in range(repeats)])[:count]


def positive_codes(table: PairTable, proteins: Sequence[str]) -> Codes:
    """Encode the positive pairs of a table whose two proteins are both in `proteins`."""
    pairs = places_of(table.proteins, proteins)[table.pairs[table.labels == 1]].reshape(-1, 2)
    return np.unique(encode_pairs(pairs[(pairs >= 0).all(1)], len(proteins)))
