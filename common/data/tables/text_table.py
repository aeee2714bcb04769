r"""Reads text tables in blocks, with any compression, encoding and line ends that `TextFile` knows.

    table = TextTable(path)
    layout = Layout("\t", width=3, columns={"a": 0, "b": 1})
    for block in table.blocks(layout):
        first = block.names("a", check_id)

Blank lines and lines that begin with `#` are skipped; any white space within a line counts as
spaces. Arrow's CSV reader parses blocks of some megabytes into dictionary-encoded columns, so a
value that occurs a million times is checked only once. A value or a line that cannot be read raises
an error with the line number.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from common.data.tables.text import BLOCK_BYTES, TextFile
from common.errors import UserError, count_of, excerpt

Codes = npt.NDArray[np.int32]
Value = TypeVar("Value")
Scalar = TypeVar("Scalar", bound=np.generic)

_HEAD_LINES = 1000
# The pattern begins with a line end, which the regular expression engine finds fast.
_SKIPPED = re.compile(rb"\n[ \t]*(?:#[^\n]*)?(?=\n)")
_SKIPPED_LINE = re.compile(r"[ \t]*(?:#|$)")
# White space in UTF-8, apart from spaces, tabs and line ends. Every pattern begins with a certain
# byte, because that is found fast.
_ODD_ASCII = [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f"]
_ODD_OTHER = [
    re.compile(rb"\xc2[\x85\xa0]"),
    re.compile(rb"\xe1\x9a\x80"),
    re.compile(rb"\xe2(?:\x80[\x80-\x8a\xa8\xa9\xaf]|\x81\x9f)"),
    re.compile(rb"\xe3\x80\x80"),
]


class Names(NamedTuple):
    """A dictionary-encoded column of protein ids, in which each distinct value is stored once.

    Attributes:
        values: The id that each distinct value stands for; empty if the value has no id.
        codes: (R,) the index into `values` for every row.
        written: The distinct values as they are written in the file.
    """

    values: list[str]
    codes: Codes
    written: list[str]

    def or_else(self, other: Names) -> Names:
        """Fill the rows where this column has no id with the ids of another column."""
        empty = np.array([not value for value in self.values], bool)[self.codes]
        codes = np.where(empty, other.codes + np.int32(len(self.values)), self.codes)
        return Names([*self.values, *other.values], codes, [*self.written, *other.written])


class Head(NamedTuple):
    """The first lines of a text table, from which its format is recognized.

    Attributes:
        comment: The last comment above the first line, without the `#`; empty if there is none.
        lines: The first lines that are neither blank nor comments.
        number: The number in the file of the first of these lines.
    """

    comment: str
    lines: list[str]
    number: int = 1


class NoDataError(UserError):
    """The error for a file that contains only blank lines and comments."""


@dataclass(frozen=True)
class Layout:
    """The layout of a text table: delimiter, number of columns, and the columns to read.

    Attributes:
        delimiter: The character between columns; None for runs of spaces and tabs.
        width: The number of columns.
        columns: The indices of the columns to read, by the names that the program gives them.
        header: Whether the first line contains the names of the columns.
        quoted: Whether values may be enclosed in double quotes.
        numbers: The names of columns of numbers that seldom repeat. These columns are not
            dictionary-encoded, because Arrow converts such numbers faster than it compares them.
        ragged: Whether lines may have more than `width` columns, which are ignored.
        form: A description of a line, for messages.
    """

    delimiter: str | None
    width: int
    columns: Mapping[str, int]
    header: bool = False
    quoted: bool = False
    numbers: Collection[str] = ()
    ragged: bool = False
    form: str = ""

    def split(self, line: str) -> list[str]:
        """Split a line of the table into the values of all columns."""
        return split_line(line, self.delimiter, self.quoted)


def split_line(line: str, delimiter: str | None, quoted: bool = False) -> list[str]:
    """Split a line into values in the same way as Arrow's CSV reader."""
    if delimiter is None:
        line, delimiter = re.sub(r"[ \t]+", "\t", line.strip(" \t")), "\t"
    if not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a text table, as columns of text.

    Attributes:
        table: The table that contains the rows.
        layout: The layout of the table.
        start: The number of rows before this block.
        columns: The (R,) columns, by the names in `layout.columns`, dictionary-encoded apart from
            `layout.numbers`.
    """

    table: TextTable
    layout: Layout
    start: int
    columns: Mapping[str, pa.Array] = field(repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def convert(self, column: str, convert: Callable[[str], Value]) -> tuple[list[Value], Codes]:
        """Convert the distinct values of a column; also return each row's index into the result.

        Args:
            column: The name of the column in `layout.columns`.
            convert: Converts a value, or raises a ValueError that says what is wrong.

        Raises:
            UserError: A value cannot be converted; the message gives the line number.
        """
        array = self.columns[column].dictionary_encode()
        codes: Codes = array.indices.to_numpy()
        found: list[Value] = []
        for place, text in enumerate(array.dictionary.to_pylist()):  # in the order of the rows
            try:
                found.append(convert(text))
            except ValueError as error:
                row = self.start + int(np.argmax(codes == place))
                raise self.table.refuse(row, str(error), self.layout) from None
        return found, codes

    def array(
        self, column: str, convert: Callable[[str], float], dtype: type[Scalar]
    ) -> npt.NDArray[Scalar]:
        """Convert the values of a column and return an array (R,).

        Of a block in which Arrow can read all of `layout.numbers`, `convert` converts nothing.

        Raises:
            UserError: A value cannot be converted; the message gives the line number.
        """
        found: npt.NDArray[Scalar]
        if column in self.layout.numbers:
            with contextlib.suppress(pa.ArrowInvalid):
                found = self.columns[column].cast(pa.float64()).to_numpy().astype(dtype, copy=False)
                return found
        values, codes = self.convert(column, convert)
        found = np.array(values, dtype)[codes]
        return found

    def names(self, column: str, convert: Callable[[str], str]) -> Names:
        """Return the ids of a column; `convert` maps a value to its id, or to an empty string."""
        values, codes = self.convert(column, convert)
        return Names(values, codes, self.columns[column].dictionary.to_pylist())


class TextTable(TextFile):
    """A text file that contains a table, which is read in blocks of rows.

    Attributes:
        head: The first lines of the file.
        header: The line that the last reading treated as a header; empty if there was no header.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.header = ""
        self.head = self._read_head()

    def blocks(self, layout: Layout) -> Iterator[Block]:
        """Yield all rows of the table in blocks of a few megabytes.

        Raises:
            UserError: The file cannot be read, or a line has a different number of columns.
        """
        self.header = self.head.lines[0] if layout.header else ""
        names = [str(place) for place in range(layout.width)]
        wanted = {name: str(place) for name, place in layout.columns.items()}
        coded = pa.dictionary(pa.int32(), pa.string())
        types = {wanted[name]: pa.string() if name in layout.numbers else coded for name in wanted}
        start = 0
        try:
            for batch in arrow_csv.open_csv(
                _Stream(self._data_blocks(layout)),
                arrow_csv.ReadOptions(
                    column_names=names, skip_rows=int(layout.header), block_size=2 * BLOCK_BYTES
                ),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter or "\t",
                    quote_char='"' if layout.quoted else False,
                    double_quote=layout.quoted,
                ),
                arrow_csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(types),
                    null_values=[],
                ),
            ):
                columns = {name: batch.column(place) for name, place in wanted.items()}
                yield Block(self, layout, start, columns)
                start += batch.num_rows
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            raise self._blame(layout, error) from None

    def refuse(self, row: int, reason: str, layout: Layout) -> UserError:
        """Build the error for a faulty row; the message gives the line number in the file."""
        number, _ = next(itertools.islice(self._rows(layout), row, None))
        return UserError(f"{self.path}, line {number}: {reason}; correct or remove the line")

    def _blame(self, layout: Layout, error: pa.ArrowInvalid) -> UserError:
        first, form = self.head.number, f" ({layout.form})" if layout.form else ""
        for number, line in self._rows(layout):
            found = len(layout.split(line))
            if found < layout.width or (found > layout.width and not layout.ragged):
                return UserError(
                    f"{self.path}, line {number}: '{excerpt(' '.join(line.split()))}' has"
                    f" {count_of(found, 'column')}, but line {first} has {layout.width}, and all"
                    f" lines must have the same columns{form}; correct or remove one of the two"
                    " lines"
                )
        reason = excerpt(str(error).splitlines()[0], 200)
        return UserError(f"{self.path} cannot be parsed: {reason}; check the format of the file")

    def text_blocks(self) -> Iterator[bytes]:
        """Yield the text in blocks of whole lines, in which odd white space is a space."""
        for block in super().text_blocks():
            for mark in _ODD_ASCII:
                block = block.replace(mark, b" ")
            for pattern in () if block.isascii() else _ODD_OTHER:
                block = pattern.sub(b" ", block)
            yield block

    def _read_head(self) -> Head:
        comment, lines, first = "", list[str](), 0
        for number, line in self.lines():
            if not _SKIPPED_LINE.match(line):
                lines.append(line)
                first = first or number
            elif not lines and line.strip():
                comment = line.strip().lstrip("#")
            if len(lines) == _HEAD_LINES:
                break
        if not lines:
            raise NoDataError(f"{self.path} contains no data; check the path")
        return Head(comment, lines, first)

    def _rows(self, layout: Layout) -> Iterator[tuple[int, str]]:
        """Yield the number and the text of the line of every row."""
        lines = ((n, line) for n, line in self.lines() if not _SKIPPED_LINE.match(line))
        return itertools.islice(lines, int(layout.header), None)

    def _data_blocks(self, layout: Layout) -> Iterator[bytes]:
        """Yield blocks of the file without blank lines, comments and superfluous columns."""
        for block in self.text_blocks():
            text = np.frombuffer(block, np.uint8)
            blank = text <= ord(" ")
            if b"#" in block or blank[0] or (blank[1:] & (text[:-1] == ord("\n"))).any():
                block = _SKIPPED.sub(b"", b"\n" + block)[1:]
            if layout.delimiter is None:
                block = _squeeze(block)
            if layout.ragged:
                block = _cut(block, (layout.delimiter or "\t").encode(), layout.width)
            if block:
                yield block


def _squeeze(block: bytes) -> bytes:
    """Replace every run of spaces and tabs by one tab; strip both ends of every line."""
    block = block.replace(b" ", b"\t")
    white = np.frombuffer(block, np.uint8) <= ord(" ")
    if (white[1:] & white[:-1]).any():
        while b"\t\t" in block:
            block = block.replace(b"\t\t", b"\t")
        block = block.replace(b"\t\n", b"\n").replace(b"\n\t", b"\n")
    return block.lstrip(b"\t")


def _cut(block: bytes, delimiter: bytes, width: int) -> bytes:
    """Remove all but the first `width` columns of every line."""
    other = b"[^\n%b]*" % delimiter
    kept = delimiter.join([other] * width)
    return re.sub(b"(?m)^(%b)%b.*$" % (kept, delimiter), rb"\1", block)


class _Stream(io.RawIOBase):
    """A file object from which Arrow reads a sequence of text blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        """Return True, because Arrow checks that a file object is readable."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes; return no bytes at the end of the data."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        if size < 0:
            size = len(self._rest)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part
