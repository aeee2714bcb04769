"""Reads text tables of protein pairs: labelled pairs, predictions, the user's pairs.

A line contains two protein ids and, depending on the kind of file (`PairFormat`), numbers. Columns
are separated by tabs, spaces or commas. UniProt names (`sp|P12345|NAME`) are read as accessions.
Compression, encodings, line ends, blank lines and comments are those of `TextTable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import check_id, shorten_uniprot
from common.data.tables.text_table import Layout, NoDataError, TextTable
from common.errors import UserError, excerpt

# Text that may be meant as a number, also with a decimal comma or a percent sign.
_NUMBER_LIKE = re.compile(r"[\"'<>=~+-]*[.,]?\d|[+-]?(nan|inf(inity)?)\b", re.A | re.I)
# Numbers as Arrow reads them, or `-nan(ind)` of some C libraries; `float` would read `1_0` as 10.
_NUMBER = re.compile(r"[+-]?(nan(\(\w*\))?|inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.A | re.I)


@dataclass(frozen=True)
class PairFormat:
    """The format of one kind of pair file, such as predictions or labelled pairs.

    Attributes:
        expected: A description of a line, for messages.
        numbers: Returns which columns are read as numbers, given the columns of the first line;
            None if the first line is of no known form.
        is_header: Whether a first line contains the names of the columns.
        labels: Whether the numbers are labels, 0 or 1.
        ragged: Whether columns after those that are read are ignored, however many there are.
    """

    expected: str
    numbers: Callable[[list[str]], tuple[int, ...] | None]
    is_header: Callable[[list[str]], bool] = lambda fields: False
    labels: bool = False
    ragged: bool = False


class PairRows(NamedTuple):
    """The content of a pair file, restricted to the requested proteins.

    Attributes:
        ids: Distinct protein ids, in the order of their appearance.
        pairs: (N, 2) int32 indices into `ids`, for the lines whose proteins were both requested.
        numbers: (K, N) float64, the numeric columns.
        header: The number of the header line; 0 if the file has no header.
        skipped: The number of lines with a protein that was not requested.
        foreign: The first protein by name that was not requested; None if there is none.
    """

    ids: list[str]
    pairs: NDArray[np.int32]
    numbers: NDArray[np.float64]
    header: int = 0
    skipped: int = 0
    foreign: str | None = None


def read_pair_file(
    path: Path, form: PairFormat, asked: Collection[str] | None = None
) -> PairRows | None:
    """Read the lines of a pair file whose proteins were both requested.

    Args:
        path: The file.
        form: The format of the file.
        asked: The requested proteins; None for all. The memory needed depends on these proteins,
            not on the size of the file.

    Returns:
        The rows of the file; None if it contains only blank lines and comments.

    Raises:
        UserError: The file cannot be read, or a line has another form.
    """
    try:
        table = TextTable(path)
    except NoDataError:
        return None
    layout, ids = _find_layout(table, form), _Ids(asked)
    names = [*layout.columns][2:]
    convert = _read_label if form.labels else _read_number
    pairs, numbers, lines = [np.empty((2, 0), np.int32)], [np.empty((len(names), 0))], 0
    for block in table.blocks(layout):
        codes = np.stack([block.array(side, ids.__getitem__, np.int32) for side in "ab"])
        values = [block.array(name, convert, np.float64) for name in names]
        kept = (codes[0] >= 0) & (codes[1] >= 0)
        pairs.append(codes[:, kept])
        numbers.append(np.array(values).reshape(-1, len(block))[:, kept])
        lines += len(block)
    found = np.concatenate(pairs, axis=1).T
    return PairRows(
        list(ids),
        found,
        np.concatenate(numbers, axis=1),
        table.head.number if layout.header else 0,
        lines - len(found),
        ids.foreign,
    )


def _find_layout(table: TextTable, form: PairFormat) -> Layout:
    fields, comma = _split_first(table.head.lines[0], form)
    numbers, header = form.numbers(fields), form.is_header(fields)
    if numbers is None or (not header and _has_blank(fields[:2])):
        line = excerpt(" ".join(table.head.lines[0].split()))
        raise UserError(
            f"{table.path}, line {table.head.number}: '{line}' is not {form.expected} (columns"
            " separated by tabs, spaces or commas, the same in all lines); correct or remove the"
            " line"
        )
    columns = {str(place): place for place in numbers}
    return Layout(
        delimiter="," if comma else None,
        width=2 if form.ragged else len(fields),
        columns={"a": 0, "b": 1} | columns,
        header=header,
        numbers=() if form.labels else tuple(columns),
        ragged=form.ragged,
        form=form.expected,
    )


def _split_first(line: str, form: PairFormat) -> tuple[list[str], bool]:
    """Return the columns of the first line, and whether commas separate the columns.

    Column names may contain spaces if tabs or commas separate the columns; ids may contain commas
    if white space separates the columns.
    """
    by_tabs, by_commas = ([part.strip() for part in line.split(mark)] for mark in "\t,")
    words = line.split()
    if all(by_tabs) and form.numbers(by_tabs) is not None:
        return by_tabs, False
    is_header = form.is_header(by_commas) and not any(map(_NUMBER_LIKE.match, words))
    apart = is_header or not _has_blank(by_commas[:2])
    if apart and all(by_commas) and form.numbers(by_commas) is not None:
        return by_commas, True
    return words, False


def _has_blank(names: Sequence[str]) -> bool:
    return any(len(name.split()) != 1 for name in names)


def names_columns(fields: Sequence[str]) -> bool:
    """Return whether a line may be a header: no column after the ids looks like a number.

    A first pair with the score `0,85` is not a header: such a line is an error and not skipped.
    """
    return "".join(fields).isprintable() and not any(map(_NUMBER_LIKE.match, fields[2:]))


class _Ids(dict[str, int]):
    """The numbers of the requested ids in the order of their appearance; any other id gets −1."""

    def __init__(self, asked: Collection[str] | None) -> None:
        super().__init__()
        self.asked = asked
        self.foreign: str | None = None  # the first id by name that was not requested

    def __missing__(self, text: str) -> int:
        name = check_id(text)
        if self.asked is None or name not in self.asked:
            name = shorten_uniprot(name)
        if self.asked is None or name in self.asked:
            return self.setdefault(name, len(self))
        self.foreign = name if self.foreign is None else min(self.foreign, name)
        return -1


def _read_label(text: str) -> float:
    label = text.strip()
    if not _NUMBER.fullmatch(label) or float(label.partition("(")[0]) not in (0, 1):
        raise ValueError(f"the label '{excerpt(label)}' is neither 0 nor 1")
    return float(label)


def _read_number(text: str) -> float:
    number = text.strip()
    if not _NUMBER.fullmatch(number):
        raise ValueError(
            f"'{excerpt(number)}' is not a number such as 0.85 (with a decimal point, without % or"
            " quotes, or NaN if not predicted)"
        )
    return float(number.partition("(")[0])
