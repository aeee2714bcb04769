"""Chooses held-out proteins, which no training pair contains, and the validation pairs among them.

A benchmark's test proteins are new to the model, but its validation proteins are usually not. With
`data_config.validation.mode: protein_disjoint`, walks of the kind that chose the test proteins
visit the network of the training and validation positives, and every visited protein is left out
of training. No walk visits a protein of an earlier walk, so the sets share no protein, and the
model is trained only once for all sets. (Holding out one set at a time would need one training run
per set.) The model is validated on each set separately, because single walks differ, and the
metrics of the sets are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config_data import Strategy, ValidationConfig
from common.data.negatives import Negatives, encode_pairs, positive_codes
from common.data.splitting import draw_test_proteins, neighbours_of
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable, overlap
from common.errors import UserError

Places = NDArray[np.int64]

_SECTION = "data_config.validation"
_FEWEST = 4  # the smallest number of proteins in a set
_STREAM = 2  # makes the draws independent of others with the same seed


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out proteins, which no training pair contains, and the validation pairs among them.

    Attributes:
        edges: (E, 2) the interactions among held-out proteins, self-pairs included, as indices
            into `proteins`.
        walks: The indices of each set's proteins; no two sets share a protein.
        table: The labelled validation pairs of all sets; `table.proteins` lists every held-out
            protein.
        counts: The number of validation pairs of each set, in the order of the sets.
    """

    edges: Places
    walks: tuple[Places, ...]
    table: PairTable
    counts: tuple[int, ...]

    @property
    def proteins(self) -> tuple[str, ...]:
        """The sorted ids of the held-out proteins."""
        return self.table.proteins

    @property
    def prevalence(self) -> float:
        """The fraction of all pairs of held-out proteins, self-pairs included, that interact.

        The fraction is computed over all sets together, because a walk visits the densest parts
        first: within a single set, which is much smaller than the test split, it is several times
        as high.
        """
        return len(self.edges) / (len(self.proteins) * (len(self.proteins) + 1) / 2)

    def __str__(self) -> str:
        sets = "one set" if len(self.walks) == 1 else f"{len(self.walks)} sets"
        return f"{len(self.proteins)} proteins in {sets}"


def find_held_out(train: PairTable, validation: PairTable) -> HeldOut | None:
    """Return the validation proteins as a held-out set, or None if any occurs in training."""
    if overlap(train, validation):
        return None
    edges = np.unique(np.sort(validation.pairs[validation.labels == 1], axis=1), axis=0)
    walk = np.arange(len(validation.proteins))
    return HeldOut(edges, (walk,), validation, (len(validation),))


def set_aside(
    train: PairTable,
    validation: PairTable,
    further: Sequence[PairTable],
    settings: ValidationConfig,
    strategy: Strategy,
    seed: int,
) -> tuple[PairTable, HeldOut]:
    """Hold out proteins for validation; return the remaining training pairs and these proteins.

    Args:
        train: The training pairs.
        validation: The validation pairs, whose positives belong to the network as well.
        further: Other pairs whose positives must not be drawn as negatives.
        settings: How many proteins are held out.
        strategy: The kind of walk.
        seed: The seed of the walks and the negatives.

    Raises:
        UserError: The network is too small for the sets, or no training pair is left.
    """
    proteins, edges = join_positives((train, validation))
    rng = np.random.default_rng((seed, 0, _STREAM))
    drawn = _draw_walks(len(proteins), edges, settings, strategy, rng)
    aside = np.sort(np.concatenate(drawn))
    names, edges = tuple(proteins[place] for place in aside), _within(edges, aside)
    walks = tuple(np.searchsorted(aside, walk) for walk in drawn)
    known = [positive_codes(table, names) for table in (train, validation, *further)]
    taken = np.stack(np.divmod(np.unique(np.concatenate(known)), len(names)), axis=1)
    sets = [_draw_set(walk, edges, taken, rng) for walk in walks]
    for number, (_, labels) in enumerate(sets, 1):
        _check_set(labels, number, settings)
    pairs, labels = (np.concatenate(parts) for parts in zip(*sets, strict=True))
    table = PairTable(names, pairs, labels)
    counts = tuple(len(labels) for _, labels in sets)
    return _without(train, names), HeldOut(edges, walks, table, counts)


def join_positives(tables: Sequence[PairTable]) -> tuple[tuple[str, ...], Places]:
    """Return the proteins in positive pairs (sorted), and the distinct pairs as indices (E, 2)."""
    named = [table.select(table.labels == 1) for table in tables]
    proteins = tuple(sorted(set().union(*(table.proteins for table in named))))
    pairs = [places_of(table.proteins, proteins)[table.pairs] for table in named]
    return proteins, np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def _draw_walks(
    count: int,
    edges: Places,
    settings: ValidationConfig,
    strategy: Strategy,
    rng: np.random.Generator,
) -> list[Places]:
    """Choose the proteins of each set, sorted, with a walk that avoids all earlier sets."""
    size = round(settings.fraction * count / settings.walks)
    if size < _FEWEST:
        raise UserError(
            f"{_SECTION} asks for {settings.walks} sets of {size} proteins (fraction"
            f" {settings.fraction} of the {count} interacting proteins), but a set needs at least"
            f" {_FEWEST} proteins; raise {_SECTION}.fraction, lower {_SECTION}.walks, or set"
            f" {_SECTION}.mode: benchmark"
        )
    free, walks = np.arange(count), list[Places]()
    for _ in range(settings.walks):
        walk = free[draw_test_proteins(neighbours_of(edges, free), size, strategy, rng)]
        free = np.setdiff1d(free, walk, assume_unique=True)
        walks.append(walk)
    return walks


def _draw_set(
    walk: Places, edges: Places, known: Places, rng: np.random.Generator
) -> tuple[Places, NDArray[np.int8]]:
    """Draw the labelled pairs of a set: all interactions, and an equal number of negatives."""
    positives, taken = _within(edges, walk), encode_pairs(_within(known, walk), len(walk))
    source = Negatives(len(walk), positives, np.sort(taken))
    count = min(len(positives), source.free)
    negatives = source.draw(count, "uniform", rng, f"{_SECTION}.fraction")
    pairs = walk[np.concatenate([positives, negatives])]
    return pairs, np.repeat(np.array([1, 0], np.int8), [len(positives), count])


def _check_set(labels: NDArray[np.int8], number: int, settings: ValidationConfig) -> None:
    if len(np.unique(labels)) < 2:
        raise UserError(
            f"{_SECTION}: set {number} of the {settings.walks} sets of held-out proteins has pairs"
            " of only one class (all interact, or none does); raise"
            f" {_SECTION}.fraction ({settings.fraction}), lower {_SECTION}.walks, or set"
            f" {_SECTION}.mode: benchmark"
        )


def _within(edges: Places, members: Places) -> Places:
    """Return the edges with both proteins in `members` (sorted), as indices into `members`."""
    return np.searchsorted(members, edges[np.isin(edges, members).all(axis=1)])


def _without(train: PairTable, proteins: Sequence[str]) -> PairTable:
    """Return the training pairs that contain none of these proteins."""
    kept: NDArray[np.bool_] = np.all(places_of(train.proteins, proteins)[train.pairs] < 0, axis=1)
    if not kept.any():
        raise UserError(
            f"no training pair is left, because each of the {len(train)} training pairs contains a"
            f" protein that {_SECTION} holds out ({len(proteins)} proteins); lower"
            f" {_SECTION}.fraction"
        )
    return train.select(kept)
