"""All pairs of the proteins of one list with those of another, without a list of the pairs.

The rows and the columns of a grid are proteins. If both are the same, all proteins are paired with
all; if the rows are some of the columns, these few with all; if the two are separate lists, bait
with prey or host with virus. Every undirected pair occurs once, in the first of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.models.ragged import HostInts


@dataclass(frozen=True, eq=False)
class PairGrid:
    """Every protein of the rows with every protein of the columns.

    Attributes:
        proteins: How many proteins there are; rows and columns are numbers below it.
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
        """Create the grid of every pair of the proteins."""
        every = np.arange(proteins, dtype=np.int64)
        return cls(proteins, every, every, with_self)

    @cached_property
    def row_places(self) -> HostInts:
        """(P,) the row of each protein; R for those without one."""
        return _places(self.rows, self.proteins)

    @cached_property
    def column_places(self) -> HostInts:
        """(P,) the column of each protein; C for those without one."""
        return _places(self.columns, self.proteins)

    @property
    def count(self) -> int:
        """The number of pairs."""
        both = int((self.row_places[self.columns] < len(self.rows)).sum())
        twice = both * (both - 1) // 2 + (0 if self.with_self else both)
        return len(self.rows) * len(self.columns) - twice

    def taken(self, piece: slice) -> NDArray[np.bool_]:
        """Mark the columns that are paired with each of these rows: (rows of the piece, C)."""
        rows, other = self.rows[piece, None], self.row_places[self.columns]
        place = np.arange(len(self.rows))[piece, None]
        mirrored = self.column_places[rows] < len(self.columns)
        taken: NDArray[np.bool_] = ~((other < place) & mirrored)
        return taken if self.with_self else taken & (self.columns != rows)

    def pairs(self, piece: slice) -> tuple[HostInts, HostInts]:
        """Return both proteins (M,) of each pair of these rows, in the order of the output."""
        rows, columns = np.nonzero(self.taken(piece))
        return self.rows[piece][rows], self.columns[columns]


def _places(numbers: HostInts, proteins: int) -> HostInts:
    places = np.full(proteins, len(numbers), dtype=np.int64)
    places[numbers] = np.arange(len(numbers))
    return places
