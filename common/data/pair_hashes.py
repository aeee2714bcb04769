"""Hashes of a checkpoint's training pairs, by which these are recognized without their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from common.data.audit_facts import EXAMPLES, Count
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt

Hashes = NDArray[np.uint64]


def hash_pairs(table: PairTable) -> Hashes:
    """Hash every distinct pair by its ids, whatever their order; 64 bits each, sorted.

    Among a million pairs, the chance that any two have the same hash is 1 in 37 million.
    """
    return np.unique(_hash_each(table))


def digest_pairs(table: PairTable) -> str:
    """Digest the labelled pairs of a table, whatever the order of its lines and of the two ids."""
    each = _hash_each(table)
    order = np.lexsort((table.labels, each))
    return xxhash.xxh3_64_hexdigest(each[order].tobytes() + table.labels[order].tobytes())


def find_hashed(table: PairTable, hashes: Hashes) -> NDArray[np.bool_]:
    """Return which pairs of a table are among those that `hash_pairs` hashed, (N,)."""
    return np.isin(_hash_each(table), hashes)


def count_hashed(table: PairTable, hashes: Hashes) -> Count:
    """Count the distinct pairs of a table that are among the hashed ones."""
    found = np.unique(np.sort(table.pairs[find_hashed(table, hashes)], axis=1), axis=0)
    names = (f"{table.proteins[a]} {table.proteins[b]}" for a, b in found[:EXAMPLES].tolist())
    return Count(len(found), tuple(names))


def load_hashes(path: Path) -> Hashes:
    """Read hashes that `numpy.save` has written.

    Raises:
        UserError: The file contains something else.
    """
    try:
        # Without pickle, because a file must not run code.
        hashes = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = excerpt(" ".join(str(error).split()), limit=200)
        raise UserError(f"{path} cannot be read: {reason}; copy the directory again") from None
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise UserError(f"{path} does not contain hashes of pairs; copy the directory again")
    return hashes


def _hash_each(table: PairTable) -> Hashes:
    # Proteins are sorted, so the smaller number has the smaller id; ids have no tabs.
    pairs = np.sort(table.pairs, axis=1).tolist()
    names = (f"{table.proteins[a]}\t{table.proteins[b]}" for a, b in pairs)
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
