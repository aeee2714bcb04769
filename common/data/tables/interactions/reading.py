"""Reads interaction files of any known format, filters the rows, and counts dropped rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data.tables.interactions.base import (
    EXAMPLES,
    FOREIGN_TEXT,
    HEADERS,
    LINES,
    LOW_SCORE,
    NO_ID,
    NO_ORGANISM,
    OTHER_ORGANISM,
    PARENTS,
    Count,
    Interactions,
    Labels,
    Mask,
    Reader,
    ReadOptions,
    Rows,
    Tally,
    settle,
)
from common.data.tables.text_table import Names, TextTable
from common.errors import UserError, excerpt
from common.registry import READERS


def read_interactions(
    files: Sequence[str | Path], format: str = "auto", options: ReadOptions | None = None
) -> Interactions:
    """Read one or several interaction files, and merge repeated interactions.

    Args:
        files: The files, whose interactions are combined.
        format: The name of a format in `READERS`; `auto` recognizes the format of each file by its
            first lines.
        options: Which interactions are read.

    Raises:
        UserError: A file cannot be read, has an unknown format, or contains a faulty line; or no
            interaction is left, and the message says which steps dropped the interactions.
    """
    gathered = _Gathered(options or ReadOptions())
    for file in files:
        table = TextTable(file)
        gathered.add(table, READERS.get(format))
    return gathered.settle(files)


def _rows_by_head(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    """Read the rows of a file with the first reader that recognizes its format."""
    for name in READERS.names():
        reader: Reader = READERS.get(name)
        if reader.recognizes(table.head):
            return reader.rows(table, options)
    line = table.head.lines[0]
    raise UserError(
        f"{table.path} has an unknown format (the first line is '{excerpt(line)}'); set"
        f" data_config.interactions.format to one of {', '.join(READERS.names())}, or reduce the"
        " file to two or three columns (protein, protein, label)"
    )


# The format `auto`.
READER = Reader(lambda head: False, _rows_by_head)


class _Gathered:
    """Collects the filtered rows of all interaction files, with proteins as numbers."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.tally = Tally()
        self.numbers: dict[str, int] = {}
        self.reduced: dict[str, None] = {}
        self.parts: list[tuple[npt.NDArray[np.int32], Labels, npt.NDArray[np.float64]]] = []

    def add(self, table: TextTable, reader: Reader) -> None:
        """Read a file, and add its rows and counts."""
        for rows in reader.rows(table, self.options):
            self.tally.add(LINES, len(rows))
            if self.options.min_score is not None and rows.scores is None:
                raise UserError(
                    f"{table.path} has no scores, but data_config.interactions.min_score is set;"
                    " remove min_score"
                )
            self._add(rows)
        self.tally.add(HEADERS, bool(table.header), [table.header])
        self.tally.add(FOREIGN_TEXT, table.foreign)

    def _add(self, rows: Rows) -> None:
        if self.options.taxid is not None and rows.organisms is None:
            self.tally.add(NO_ORGANISM, len(rows))
        kept = np.ones(len(rows), bool)
        for step, mask in self._exclusions(rows):
            lost = np.flatnonzero(kept & mask)
            self.tally.add(step, len(lost), _examples(step, rows, lost[:EXAMPLES]))
            kept &= ~mask
        self.parts.append(
            (
                np.stack([self._number(side, kept) for side in (rows.first, rows.second)], axis=1),
                np.ones(kept.sum(), np.int8) if rows.labels is None else rows.labels[kept],
                np.full(kept.sum(), np.nan) if rows.scores is None else rows.scores[kept],
            )
        )

    def _exclusions(self, rows: Rows) -> Iterator[tuple[str, Mask]]:
        yield from rows.dropped.items()
        if self.options.taxid is not None and rows.organisms is not None:
            yield OTHER_ORGANISM, np.any(rows.organisms != self.options.taxid, axis=1)
        sides = (rows.first, rows.second)
        empty = [np.array([not v for v in side.values], bool)[side.codes] for side in sides]
        yield NO_ID, empty[0] | empty[1]
        if self.options.min_score is not None and rows.scores is not None:
            yield LOW_SCORE, ~(rows.scores >= self.options.min_score)

    def _number(self, side: Names, kept: Mask) -> npt.NDArray[np.int32]:
        """Return the protein indices in one column of the remaining rows, (K,)."""
        codes = side.codes[kept]
        places = np.zeros(len(side.values), np.int32)
        for code in np.flatnonzero(np.bincount(codes, minlength=len(places))):
            name = side.values[code]
            places[code] = self.numbers.setdefault(name, len(self.numbers))
            if is_reduced(side.written[code], name):
                self.reduced.setdefault(side.written[code])
        found: npt.NDArray[np.int32] = places[codes]
        return found

    def settle(self, files: Sequence[str | Path]) -> Interactions:
        """Merge the collected rows into distinct interactions.

        Raises:
            UserError: No row was kept.
        """
        self.tally.add(PARENTS, len(self.reduced), list(self.reduced)[:EXAMPLES])
        if not any(len(labels) for _, labels, _ in self.parts):
            raise UserError(self._explain_nothing(files))
        pairs, labels, scores = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        self.parts.clear()
        return settle(list(self.numbers), pairs, labels, scores, self.tally)

    def _explain_nothing(self, files: Sequence[str | Path]) -> str:
        shown = ", ".join(str(file) for file in files[:3])
        counts = {count.step: count for count in self.tally.counts()}
        read = counts.pop(LINES, Count(LINES, 0)).number
        if not read:
            return f"{shown} contains no interactions; check data_config.interactions.files"
        steps = [count for step, count in counts.items() if step.startswith("dropped: ")]
        lost = ", ".join(f"{c.number} {c.step.removeprefix('dropped: ')}" for c in steps)
        last = steps[-1]
        return (
            f"no interaction of {shown} is left: all {read} lines were dropped ({lost}, for example"
            f" {', '.join(excerpt(text, 90) for text in last.examples[:2])}); check"
            " data_config.interactions.{format, taxid, min_score}"
        )


def is_reduced(written: str, name: str) -> bool:
    """Return whether the written id names an isoform or a chain of the protein `name`."""
    return f"{name}-" in written


def _examples(step: str, rows: Rows, places: npt.NDArray[np.intp]) -> list[str]:
    """Describe dropped rows by their proteins, and by the organisms or score that excluded them."""
    sides = (rows.first, rows.second)
    shown = []
    for row in places.tolist():
        names = [side.values[side.codes[row]] or side.written[side.codes[row]] for side in sides]
        if step == OTHER_ORGANISM and rows.organisms is not None:
            names.append(f"(organisms {rows.organisms[row, 0]}, {rows.organisms[row, 1]})")
        if step == LOW_SCORE and rows.scores is not None:
            names.append(f"(score {rows.scores[row]:g})")
        shown.append(" ".join(names))
    return shown
