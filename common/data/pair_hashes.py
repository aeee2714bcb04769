"""Hashes training pairs and proteins, so that a checkpoint recognizes them without their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from common.data.audit_facts import EXAMPLES, Count
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """The hashes of everything that a model was trained on.

    Attributes:
        pairs: Of the pairs.
        proteins: Of the proteins of these pairs; None if they are not known.
    """

    pairs: Hashes
    proteins: Hashes | None = None

    @classmethod
    def of(cls, table: PairTable) -> Self:
        """Hash the pairs of a table and their proteins."""
        used = np.unique(table.pairs).tolist()
        return cls(hash_pairs(table), np.unique(_hash(table.proteins[row] for row in used)))

    def join(self, other: Self) -> Self:
        """Add what another model was trained on."""
        proteins = None
        if self.proteins is not None and other.proteins is not None:
            proteins = np.union1d(self.proteins, other.proteins)
        return type(self)(np.union1d(self.pairs, other.pairs), proteins)


def hash_pairs(table: PairTable) -> Hashes:
    """Return sorted 64-bit hashes of the distinct pairs; the order of the two ids does not matter.

    Among a million pairs, the chance that any two have the same hash is 1 in 37 million.
    """
    return np.unique(_hash_each(table))


def digest_pairs(table: PairTable) -> str:
    """Return one hash of a table's labelled pairs, whatever the order of lines and of both ids."""
    each = _hash_each(table)
    order = np.lexsort((table.labels, each))
    return xxhash.xxh3_64_hexdigest(each[order].tobytes() + table.labels[order].tobytes())


def find_hashed(table: PairTable, hashes: Hashes) -> NDArray[np.bool_]:
    """Return a mask (N,) of the pairs in a table whose hash is among the given hashes."""
    return np.isin(_hash_each(table), hashes)


def count_hashed(table: PairTable, hashes: Hashes) -> Count:
    """Count the distinct pairs in a table whose hash is among the given hashes."""
    found = np.unique(np.sort(table.pairs[find_hashed(table, hashes)], axis=1), axis=0)
    names = (f"{table.proteins[a]} {table.proteins[b]}" for a, b in found[:EXAMPLES].tolist())
    return Count(len(found), tuple(names))


def find_proteins(ids: Iterable[str], hashes: Hashes) -> tuple[str, ...]:
    """Return those of the protein ids that are among the hashed ones, sorted."""
    names = sorted(ids)
    return tuple(np.array(names, object)[np.isin(_hash(names), hashes)])


def load_hashes(path: Path) -> Hashes:
    """Read pair hashes from a file that `numpy.save` wrote.

    Raises:
        UserError: The file is damaged or contains something else.
    """
    try:
        # Pickled objects are refused, because unpickling can run code.
        hashes = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = excerpt(" ".join(str(error).split()), limit=200)
        raise UserError(f"{path} cannot be read: {reason}; copy the checkpoint again") from None
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise UserError(f"{path} does not contain hashes of pairs; copy the checkpoint again")
    return hashes


def _hash_each(table: PairTable) -> Hashes:
    # Proteins are sorted, so the smaller number has the smaller id; ids contain no tabs.
    pairs = np.sort(table.pairs, axis=1).tolist()
    return _hash(f"{table.proteins[a]}\t{table.proteins[b]}" for a, b in pairs)


def _hash(names: Iterable[str]) -> Hashes:
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
