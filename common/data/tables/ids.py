"""Checks protein ids, shortens UniProt names, and numbers ids by their place in a list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import excerpt

_NAME = re.compile(r"(?:sp|tr)\|([^|]+)\|")


def shorten_uniprot(name: str) -> str:
    """Return the accession of a UniProt name (`sp|P12345|NAME`), or any other name unchanged."""
    uniprot = _NAME.match(name)
    return uniprot.group(1) if uniprot else name


def check_id(text: str) -> str:
    """Check a protein id and return it without surrounding white space.

    Raises:
        ValueError: The id is empty, or contains characters that an id in FASTA cannot contain.
    """
    name = text.strip()
    if not name:
        raise ValueError("a protein id is missing")
    if not name.isprintable() or " " in name:
        raise ValueError(f"the id '{excerpt(name)}' contains spaces or non-printable characters")
    return name


def places_of(names: Iterable[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the index (N,) of each name in `ids`, or −1 if `ids` does not contain the name."""
    index = {name: place for place, name in enumerate(ids)}
    return np.array([index.get(name, -1) for name in names], dtype=np.int64)


def number_ids(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the sorted list of distinct names, and the index (N,) of each name in that list."""
    ids = tuple(sorted(set(names)))
    return ids, places_of(names, ids)
