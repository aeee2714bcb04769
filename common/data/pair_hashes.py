"""Hashes training pairs, by which a checkpoint recognizes pairs without storing protein names."""

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
    names = (f"{table.proteins[a]}\t{table.proteins[b]}" for a, b in pairs)
    return np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
