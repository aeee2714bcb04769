"""Hashes by which pairs are recognized without their names: of a checkpoint's training pairs."""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from common.data.tables.pairs import PairTable

Hashes = NDArray[np.uint64]


def hash_pairs(table: PairTable) -> Hashes:
    """Hash every distinct pair by its ids, whatever their order; 64 bits each, sorted.

    Two of a million pairs have the same hash once in 37 million times.
    """
    return np.unique(_hash_each(table))


def find_hashed(table: PairTable, hashes: Hashes) -> NDArray[np.bool_]:
    """Which pairs of a table are among those that `hash_pairs` hashed, (N,)."""
    return np.isin(_hash_each(table), hashes)


def _hash_each(table: PairTable) -> Hashes:
    # Proteins are sorted, so the smaller number has the smaller id; ids have no tabs.
    pairs = np.sort(table.pairs, axis=1).tolist()
    names = (f"{table.proteins[a]}\t{table.proteins[b]}" for a, b in pairs)
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
