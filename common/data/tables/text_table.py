r"""Text tables from any source, in blocks: compressed or not, in any encoding, with any line ends.

    table = TextTable(path)
    layout = Layout("\t", width=3, columns={"a": 0, "b": 1})
    for block in table.blocks(layout):
        first = block.names("a", check_id)

The text is read as by `TextFile`; blank lines and lines that begin with `#` are skipped. Arrow's
CSV reader parses blocks of some megabytes into dictionary-encoded columns, so that a value that
occurs a million times is examined once. A value or a line that cannot be read is refused with its
line number.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from common.data.tables.text import BLOCK_BYTES, TextFile
from common.errors import UserError, excerpt

Codes = npt.NDArray[np.int32]
Value = TypeVar("Value")
Scalar = TypeVar("Scalar", bound=np.generic)

_HEAD_LINES = 1000
# Begins with a line end because the regular expression engine finds that fast.
_SKIPPED = re.compile(rb"\n[ \t]*(?:#[^\n]*)?(?=\n)")
_SKIPPED_LINE = re.compile(r"[ \t]*(?:#|$)")
_BLANKS = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"[ \t]*\n[ \t]*")


class Names(NamedTuple):
    """A column of ids, dictionary-encoded: each distinct id once.

    Attributes:
        values: The ids that are meant; empty where there is none.
        codes: (R,) for every row its place in `values`.
        written: The ids as the file writes them.
    """

    values: list[str]
    codes: Codes
    written: list[str]

    def or_else(self, other: Names) -> Names:
        """Return the ids of `other` in the rows where this column has none."""
        empty = np.array([not value for value in self.values], bool)[self.codes]
        codes = np.where(empty, other.codes + np.int32(len(self.values)), self.codes)
        return Names([*self.values, *other.values], codes, [*self.written, *other.written])


class Head(NamedTuple):
    """The beginning of a table.

    Attributes:
        comment: The comment right above the first line, without its `#`; empty if there is none.
        lines: The first lines that are neither blank nor comments.
    """

    comment: str
    lines: list[str]


@dataclass(frozen=True)
class Layout:
    """The layout of a table.

    Attributes:
        delimiter: What separates the columns; None for runs of spaces and tabs.
        width: The number of columns.
        columns: The indices of the columns to read, by their content.
        header: Whether the first line names the columns.
        quoted: Whether values may stand in double quotes.
    """

    delimiter: str | None
    width: int
    columns: Mapping[str, int]
    header: bool = False
    quoted: bool = False

    def split(self, line: str) -> list[str]:
        """Return the values of a line."""
        return split_line(line, self.delimiter, self.quoted)


def split_line(line: str, delimiter: str | None, quoted: bool = False) -> list[str]:
    """Return the values of a line, as Arrow separates them."""
    if delimiter is None:
        line, delimiter = re.sub(r"[ \t]+", "\t", line.strip(" \t")), "\t"
    if not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


@dataclass(frozen=True)
class Block:
    """Some rows of a table, in dictionary-encoded columns.

    Attributes:
        table: The table that the rows are from.
        layout: The layout of the table.
        start: How many rows come before these.
        columns: (R,) arrays by their content.
    """

    table: TextTable
    layout: Layout
    start: int
    columns: Mapping[str, pa.DictionaryArray] = field(repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def convert(self, column: str, convert: Callable[[str], Value]) -> tuple[list[Value], Codes]:
        """Convert the distinct values of a column; also return each row's index among them.

        Args:
            column: The column's content.
            convert: Converts a value; the text of its ValueError says what is wrong with it.

        Raises:
            UserError: A value cannot be converted; the message names its line.
        """
        array = self.columns[column]
        codes: Codes = array.indices.to_numpy()
        found: list[Value] = []
        wrong: dict[int, str] = {}
        for place, text in enumerate(array.dictionary.to_pylist()):
            try:
                found.append(convert(text))
            except ValueError as error:
                wrong[place] = str(error)
        if wrong:
            row = int(np.argmax(np.isin(codes, list(wrong))))
            raise self.table.refuse(self.start + row, wrong[int(codes[row])], self.layout)
        return found, codes

    def array(
        self, column: str, convert: Callable[[str], float], dtype: type[Scalar]
    ) -> npt.NDArray[Scalar]:
        """Return the values of a column, converted, as an array (R,)."""
        values, codes = self.convert(column, convert)
        found: npt.NDArray[Scalar] = np.array(values, dtype)[codes]
        return found

    def names(self, column: str, convert: Callable[[str], str]) -> Names:
        """Return the ids of a column; `convert` gives the id that is meant, or an empty string."""
        values, codes = self.convert(column, convert)
        return Names(values, codes, self.columns[column].dictionary.to_pylist())


class TextTable(TextFile):
    """A text file that holds a table.

    Attributes:
        head: How it begins.
        header: The line taken for a header when the file was last read; empty if none was.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.header = ""
        self.head = self._read_head()

    def blocks(self, layout: Layout) -> Iterator[Block]:
        """Yield all rows, in blocks.

        Raises:
            UserError: The file cannot be read, or a line has a different number of columns.
        """
        self.header = self.head.lines[0] if layout.header else ""
        names = [str(place) for place in range(layout.width)]
        wanted = {name: str(place) for name, place in layout.columns.items()}
        text = pa.dictionary(pa.int32(), pa.string())
        start = 0
        try:
            for batch in arrow_csv.open_csv(
                _Stream(self._data_blocks(layout.delimiter)),
                arrow_csv.ReadOptions(
                    column_names=names, skip_rows=int(layout.header), block_size=BLOCK_BYTES
                ),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter or "\t",
                    quote_char='"' if layout.quoted else False,
                    double_quote=layout.quoted,
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted.values(), text),
                    include_columns=list(dict.fromkeys(wanted.values())),
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
        """Build the error for a row; the message names the number of its line."""
        number, _ = next(itertools.islice(self._data_lines(), row + layout.header, None))
        return UserError(f"{self.path}, line {number}: {reason}; correct or remove the line")

    def _blame(self, layout: Layout, error: pa.ArrowInvalid) -> UserError:
        for number, line in self._data_lines():
            found = len(layout.split(line))
            if found != layout.width:
                return UserError(
                    f"{self.path}, line {number}: {found} columns, but the first line has"
                    f" {layout.width}; correct or remove the line"
                )
        reason = excerpt(str(error).splitlines()[0], 200)
        return UserError(f"{self.path} cannot be parsed: {reason}; check its format")

    def _read_head(self) -> Head:
        comment, lines = "", list[str]()
        for _, line in self.lines():
            if not _SKIPPED_LINE.match(line):
                lines.append(line)
            elif not lines and line.strip():
                comment = line.strip().lstrip("#")
            if len(lines) == _HEAD_LINES:
                break
        if not lines:
            raise UserError(f"{self.path} is empty; check the path")
        return Head(comment, lines)

    def _data_lines(self) -> Iterator[tuple[int, str]]:
        return ((n, line) for n, line in self.lines() if not _SKIPPED_LINE.match(line))

    def _data_blocks(self, delimiter: str | None) -> Iterator[bytes]:
        """Yield the lines that hold data."""
        for block in self.text_blocks():
            if b"#" in block or block[:1] in b" \t\n" or re.search(rb"\n[ \t\n]", block):
                block = _SKIPPED.sub(b"", b"\n" + block)[1:]
            if delimiter is None:
                block = _squeeze(block)
            if block:
                yield block


def _squeeze(block: bytes) -> bytes:
    """Replace each run of spaces and tabs by one tab, and remove those at the ends of lines."""
    if b"\t" in block or b"  " in block or b" \n" in block or b"\n " in block:
        block = _BLANKS.sub(b"\t", _EDGES.sub(b"\n", block))
    return block.lstrip(b" \t").replace(b" ", b"\t")


class _Stream(io.RawIOBase):
    """The blocks as a file object for Arrow."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        """Required by Arrow."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read at most this many bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        if size < 0:
            size = len(self._rest)
        part, self._rest = self._rest[:size], self._rest[size:]
        return part
