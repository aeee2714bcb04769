"""Represent all pairs of two lists of proteins without storing a list of the pairs.

The rows and the columns of a grid are proteins. If rows and columns are the same, all proteins are
paired with one another; if the rows are some of the columns, these proteins are paired with all;
separate lists can be baits and preys, or host and virus proteins. Every undirected pair occurs
once, in the first of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.models.ragged import HostInts


@dataclass(frozen=True, eq=False)
class PairGrid:
    """A grid that pairs every protein of its rows with every protein of its columns.

    Attributes:
        proteins: The number P of proteins; rows and columns contain smaller numbers.
        rows: (R,) distinct proteins, in the order of the output.
        columns: (C,) distinct proteins, in the order of the output within a row.
        with_self: Whether a protein is paired with itself.
    """

    proteins: int
    rows: HostInts
    columns: HostInts
    with_self: bool = False

    @classmethod
    def all_against_all(cls, proteins: int, with_self: bool = False) -> PairGrid:
        """Create the grid that pairs all proteins with one another."""
        every = np.arange(proteins, dtype=np.int64)
        return cls(proteins, every, every, with_self)

    @cached_property
    def row_places(self) -> HostInts:
        """(P,) the row of each protein, or R for a protein without a row."""
        return _places(self.rows, self.proteins)

    @cached_property
    def column_places(self) -> HostInts:
        """(P,) the column of each protein, or C for a protein without a column."""
        return _places(self.columns, self.proteins)

    @property
    def count(self) -> int:
        """The number of distinct pairs of the grid."""
        both = int((self.row_places[self.columns] < len(self.rows)).sum())
        twice = both * (both - 1) // 2 + (0 if self.with_self else both)
        return len(self.rows) * len(self.columns) - twice

    def taken(self, piece: slice) -> NDArray[np.bool_]:
        """Mark the columns that are paired with each row of a piece: (rows of the piece, C)."""
        rows, other = self.rows[piece, None], self.row_places[self.columns]
        place = np.arange(len(self.rows))[piece, None]
        mirrored = self.column_places[rows] < len(self.columns)
        taken: NDArray[np.bool_] = ~((other < place) & mirrored)
        return taken if self.with_self else taken & (self.columns != rows)

    def pairs(self, piece: slice) -> tuple[HostInts, HostInts]:
        """Return the first and the second proteins (M,) of these rows' pairs, in output order."""
        rows, columns = np.nonzero(self.taken(piece))
        return self.rows[piece][rows], self.columns[columns]


def _places(numbers: HostInts, proteins: int) -> HostInts:
    places = np.full(proteins, len(numbers), dtype=np.int64)
    places[numbers] = np.arange(len(numbers))
    return places
