"""Draws negatives: pairs of given proteins that are not known to interact.

`uniform` gives every free pair the same chance. `degree` draws each protein as often as it occurs
in the positives, and with partners of similar degrees, so that the numbers of partners alone
predict nothing.
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

# How far apart the log degrees of exchanged partners may be, and how that widens each round.
_SPREAD = 0.1
_WIDENING = 1.5
_ROUNDS = 12
# For each pair that must change, this many others change as well.
_MIXED_IN = 3
# Where at least this share of the free pairs is asked for, all of them are listed.
_DENSE = 0.25


def encode_pairs(pairs: Pairs, proteins: int) -> Codes:
    """Return one number for each unordered pair of protein numbers below `proteins`."""
    codes: Codes = pairs.min(1) * proteins + pairs.max(1)
    return codes


@dataclass(frozen=True, eq=False)
class Negatives:
    """The pairs of proteins 0, 1, …, `proteins` - 1 that negatives are drawn from.

    Attributes:
        proteins: How many proteins there are.
        positives: (P, 2) the positives that the negatives go with; `degree` copies their degrees.
        known: Sorted, distinct codes of the pairs that are never drawn.
        self_pairs: Whether a protein may be drawn with itself.
    """

    proteins: int
    positives: Pairs
    known: Codes
    self_pairs: bool = False

    @classmethod
    def of_table(
        cls, table: PairTable, others: Iterable[PairTable] = (), self_pairs: bool = False
    ) -> Negatives:
        """Prepare to draw negatives for a table; no positive of any given table is drawn."""
        known = [positive_codes(other, table.proteins) for other in (table, *others)]
        positives = table.pairs[table.labels == 1]
        return cls(len(table.proteins), positives, np.unique(np.concatenate(known)), self_pairs)

    @property
    def free(self) -> int:
        """The number of pairs that can be drawn."""
        if self.self_pairs:
            return self.proteins * (self.proteins + 1) // 2 - len(self.known)
        others = self.known // self.proteins != self.known % self.proteins
        return self.proteins * (self.proteins - 1) // 2 - int(others.sum())

    def draw(self, count: int, draw: Draw, rng: np.random.Generator, setting: str) -> Pairs:
        """`count` distinct free pairs (count, 2), in random order, the smaller number first.

        With `degree`, every protein occurs as often as in `count` positives (all positives as many
        times as `count` allows, then a random part). Proteins with too few free partners for that
        occur less often, and random pairs make up the number.

        Args:
            count: How many pairs are drawn.
            draw: How they are chosen.
            rng: The random generator.
            setting: The configuration key that sets the number, for the message.

        Raises:
            UserError: There are fewer free pairs.
        """
        self.check(count, setting)
        if draw == "uniform" or not len(self.positives):
            return self._decode(self._draw_uniform(count, self.known, rng))
        drawn = self._draw_by_degree(count, rng)
        taken = np.sort(np.concatenate([self.known, drawn]))
        filling = self._draw_uniform(count - len(drawn), taken, rng)
        return self._decode(rng.permutation(np.concatenate([drawn, filling])))

    def check(self, count: int, setting: str) -> None:
        """Check that there are enough free pairs.

        Raises:
            UserError: There are too few; the message names the key that sets the number.
        """
        if count > self.free:
            raise UserError(
                f"{setting} asks for {count} negatives, but of the pairs among {self.proteins}"
                f" proteins only {self.free} are not known to interact; lower {setting}"
            )

    def _decode(self, codes: Codes) -> Pairs:
        return np.stack(np.divmod(codes, self.proteins), axis=1)

    def _draw_uniform(self, count: int, taken: Codes, rng: np.random.Generator) -> Codes:
        """`count` distinct codes that are not among the `taken` ones (sorted)."""
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
            # n + 1 numbers form as many pairs as n numbers that may be paired with themselves.
            pairs[:, 1] -= self.self_pairs
            drawn = np.concatenate([drawn, encode_pairs(pairs, self.proteins)])
            drawn = drawn[self._usable(drawn, taken)]
        return drawn[:count]

    def _draw_by_degree(self, count: int, rng: np.random.Generator) -> Codes:
        """At most `count` codes, from positives that exchange partners of about the same degree."""
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
        """Return which codes are free and appear for the first time."""
        # Each code carries its place: sorting numbers is several times faster than `argsort`.
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
    """Exchange one protein of each pair for another of about the same (logarithmic) degree."""
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
    """A table's positives, with negatives that are drawn for every epoch.

    The negatives depend only on the seed and the epoch, so every process draws the same ones, and
    so does a run that is resumed.

    Attributes:
        table: The pairs of the file; its negatives are left out.
        negatives: The pairs that they are drawn from.
        settings: How many are drawn for each positive, and how.
        seed: Determines the draws, together with the epoch.
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
        """Resample a table's negatives; positives of it or of the others are never drawn.

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
        """How many negatives an epoch has."""
        return max(1, round(self.settings.per_positive * len(self.negatives.positives)))

    def __len__(self) -> int:
        """Return how many pairs an epoch has."""
        return len(self.negatives.positives) + self.count

    def at(self, epoch: int) -> PairTable:
        """Return the pairs of an epoch: the positives, then its negatives."""
        if epoch not in self._latest:
            # The third number keeps these draws apart from those of the order of the pairs.
            rng = np.random.default_rng((self.seed, epoch, 1))
            drawn = self.negatives.draw(self.count, self.settings.draw, rng, _PER_POSITIVE)
            pairs = np.concatenate([self.negatives.positives, drawn])
            labels = np.repeat(np.array([1, 0], np.int8), [len(pairs) - len(drawn), len(drawn)])
            self._latest.clear()
            self._latest[epoch] = replace(self.table, pairs=pairs, labels=labels)
        return self._latest[epoch]


def contains(ordered: Codes, codes: Codes) -> NDArray[np.bool_]:
    """Return which of `codes` are among the `ordered` ones."""
    if not len(ordered):
        return np.zeros(len(codes), np.bool_)
    place = np.minimum(np.searchsorted(ordered, codes), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[place] == codes
    return found


def cycle(rng: np.random.Generator, rows: Pairs, count: int) -> Pairs:
    """`count` rows from permutations of `rows`, one after the other, the last one cut short."""
    repeats = -(-count // len(rows)) if count else 1
    return np.concatenate([rng.permutation(rows) for _ in range(repeats)])[:count]


def positive_codes(table: PairTable, proteins: Sequence[str]) -> Codes:
    """Return the codes of a table's positives between `proteins`, numbered in their order."""
    pairs = places_of(table.proteins, proteins)[table.pairs[table.labels == 1]].reshape(-1, 2)
    return np.unique(encode_pairs(pairs[(pairs >= 0).all(1)], len(proteins)))
