"""Proteins that no training pair contains: what a model is validated on, and their network.

A benchmark's test proteins are new to the model, but its validation proteins are usually not. With
`data_config.validation.mode: protein_disjoint`, walks of the kind that chose the test proteins
visit the network of the training and validation positives, and the proteins that they visit are
left out of training. Each walk visits only proteins that the walks before it have left, so their
sets share no protein, and one training serves all of them. (Setting aside one set at a time would
need one training for each.) The model is validated on each set by itself, because single walks
differ, and the metrics of the sets are averaged.
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
_FEWEST = 4  # proteins in a set
_STREAM = 2  # makes the draws independent of others with the same seed


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Proteins that no training pair contains.

    Attributes:
        edges: (E, 2) the interactions among them, self-pairs included, as places in `proteins`.
        walks: The places of each set's proteins; no two sets share one.
        table: The labelled validation pairs among them; its proteins are all that are held out.
        counts: How many of these pairs each set has, in the order of the sets.
    """

    edges: Places
    walks: tuple[Places, ...]
    table: PairTable
    counts: tuple[int, ...]

    @property
    def proteins(self) -> tuple[str, ...]:
        """Their ids, sorted."""
        return self.table.proteins

    @property
    def prevalence(self) -> float:
        """The share of all their pairs, self-pairs included, that interact.

        It is computed over all sets together, because a walk visits the densest parts first: within
        single sets, which are much smaller than a test side, the share is several times as high.
        """
        return len(self.edges) / (len(self.proteins) * (len(self.proteins) + 1) / 2)

    def __str__(self) -> str:
        sets = "one set" if len(self.walks) == 1 else f"{len(self.walks)} sets"
        return f"{len(self.proteins)} proteins in {sets}"


def find_held_out(train: PairTable, validation: PairTable) -> HeldOut | None:
    """Return the validation proteins as one set, if no training pair contains any of them."""
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
    """Set proteins aside; return the training pairs without them, and these proteins.

    Args:
        train: The training pairs.
        validation: The validation pairs, whose positives belong to the network as well.
        further: Other pairs whose positives are not drawn as negatives either.
        settings: How many proteins are set aside.
        strategy: The kind of walk.
        seed: Determines the walks and the negatives.

    Raises:
        UserError: The network is too small for the sets, or nothing is left to train on.
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
    """Return the proteins of all positive pairs, sorted, and these pairs, (E, 2), each once."""
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
    """Return the proteins of each set, sorted: a walk over what the walks before it have left."""
    size = round(settings.fraction * count / settings.walks)
    if size < _FEWEST:
        raise UserError(
            f"{_SECTION} asks for {settings.walks} sets of {size} proteins (fraction"
            f" {settings.fraction} of the {count} that interact), but a set needs at least"
            f" {_FEWEST}; raise {_SECTION}.fraction, lower {_SECTION}.walks, or set"
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
    """Return all edges among some proteins, as many pairs not known to interact, and labels."""
    positives, taken = _within(edges, walk), encode_pairs(_within(known, walk), len(walk))
    source = Negatives(len(walk), positives, np.sort(taken))
    count = min(len(positives), source.free)
    negatives = source.draw(count, "uniform", rng, f"{_SECTION}.fraction")
    pairs = walk[np.concatenate([positives, negatives])]
    return pairs, np.repeat(np.array([1, 0], np.int8), [len(positives), count])


def _check_set(labels: NDArray[np.int8], number: int, settings: ValidationConfig) -> None:
    if len(np.unique(labels)) < 2:
        raise UserError(
            f"of the {settings.walks} sets of proteins that {_SECTION} sets aside, set {number} has"
            f" no interaction, or only interactions; raise {_SECTION}.fraction"
            f" ({settings.fraction}), lower {_SECTION}.walks, or set {_SECTION}.mode: benchmark"
        )


def _within(edges: Places, members: Places) -> Places:
    """Return the edges whose two proteins are both in `members` (sorted), as indices into it."""
    return np.searchsorted(members, edges[np.isin(edges, members).all(axis=1)])


def _without(train: PairTable, proteins: Sequence[str]) -> PairTable:
    """Return the pairs that contain none of these proteins."""
    kept: NDArray[np.bool_] = np.all(places_of(train.proteins, proteins)[train.pairs] < 0, axis=1)
    if not kept.any():
        raise UserError(
            f"every one of the {len(train)} training pairs contains one of the {len(proteins)}"
            f" proteins that {_SECTION} sets aside; lower {_SECTION}.fraction"
        )
    return train.select(kept)
