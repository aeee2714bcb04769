r"""Text tables from anywhere, in blocks: packed or not, in any common encoding, with any line ends.

    table = TextTable(path)
    layout = Layout("\t", width=3, columns={"a": 0, "b": 1})
    for block in table.blocks(layout):
        first = block.names("a", check_id)

Gzip is recognized by its content. A byte order mark, blank lines and lines that begin with `#` are
skipped; a line that is not UTF-8 is read as Windows-1252. Arrow's CSV reader parses blocks of some
megabytes into dictionary-encoded columns, so that a value that occurs a million times is examined
once. A value or a line that cannot be read is refused with its line number.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from common.errors import UserError, excerpt

Codes = npt.NDArray[np.int32]
Value = TypeVar("Value")
Scalar = TypeVar("Scalar", bound=np.generic)

_BLOCK_BYTES = 8 << 20
_HEAD_LINES = 1000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# With a line end in front, which is what the regular expression engine finds fast.
_SKIPPED = re.compile(rb"\n[ \t]*(?:#[^\n]*)?(?=\n)")
_SKIPPED_LINE = re.compile(r"[ \t]*(?:#|$)")
_BLANKS = re.compile(rb"[ \t]+")
_EDGES = re.compile(rb"[ \t]*\n[ \t]*")
# The first bytes of files that people pass on as they were downloaded.
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
}


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
        """The ids of `other` in the rows where this column has none."""
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
        columns: Which of them are read, by what they hold.
        header: Whether the first line names the columns.
        quoted: Whether values may stand in double quotes.
    """

    delimiter: str | None
    width: int
    columns: Mapping[str, int]
    header: bool = False
    quoted: bool = False

    def split(self, line: str) -> list[str]:
        """The values of a line."""
        return split_line(line, self.delimiter, self.quoted)


def split_line(line: str, delimiter: str | None, quoted: bool = False) -> list[str]:
    """The values of a line, as Arrow separates them."""
    if delimiter is None:
        line, delimiter = re.sub(r"[ \t]+", "\t", line.strip(" \t")), "\t"
    if not quoted:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])


@dataclass(frozen=True)
class Block:
    """Some rows of a table, in dictionary-encoded columns.

    Attributes:
        table: Where they are from.
        layout: Its form.
        start: How many rows were before these.
        columns: (R,) arrays by what they hold.
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
            column: What the column holds.
            convert: Converts a value; the text of its ValueError says what is wrong with it.

        Raises:
            UserError: A value cannot be converted; the sentence names its line.
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
        """The values of a column, converted, as an array (R,)."""
        values, codes = self.convert(column, convert)
        found: npt.NDArray[Scalar] = np.array(values, dtype)[codes]
        return found

    def names(self, column: str, convert: Callable[[str], str]) -> Names:
        """The ids of a column; `convert` gives the id that is meant, or an empty string."""
        values, codes = self.convert(column, convert)
        return Names(values, codes, self.columns[column].dictionary.to_pylist())


class TextTable:
    """A text file that holds a table.

    Attributes:
        path: The file.
        head: How it begins.
        foreign: How many lines were read as Windows-1252 the last time.
        header: The line that was taken for a header the last time; empty if none was.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.foreign = 0
        self.header = ""
        self.head = self._read_head()

    def blocks(self, layout: Layout) -> Iterator[Block]:
        """All rows, in blocks.

        Raises:
            UserError: The file cannot be read, or a line has another number of columns.
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
                    column_names=names, skip_rows=int(layout.header), block_size=_BLOCK_BYTES
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
        """Build the error for a row; its number is translated to the number of its line."""
        number, _ = next(itertools.islice(self._data_lines(), row + layout.header, None))
        return UserError(f"{self.path}, line {number}: {reason}; correct or remove the line")

    def _blame(self, layout: Layout, error: pa.ArrowInvalid) -> UserError:
        for number, line in self._data_lines():
            found = len(layout.split(line))
            if found != layout.width:
                return UserError(
                    f"{self.path}, line {number}: {found} columns where the first line has"
                    f" {layout.width}; correct or remove the line"
                )
        reason = excerpt(str(error).splitlines()[0], 200)
        return UserError(f"{self.path} cannot be parsed: {reason}; check its form")

    def _read_head(self) -> Head:
        comment, lines = "", list[str]()
        for _, line in self._lines():
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
        return ((n, line) for n, line in self._lines() if not _SKIPPED_LINE.match(line))

    def _lines(self) -> Iterator[tuple[int, str]]:
        """All lines with their numbers."""
        number = 0
        for block in self.text_blocks():
            for line in block.decode().split("\n")[:-1]:
                number += 1
                yield number, line

    def _data_blocks(self, delimiter: str | None) -> Iterator[bytes]:
        """The lines that hold data."""
        for block in self.text_blocks():
            if b"#" in block or block[:1] in b" \t\n" or re.search(rb"\n[ \t\n]", block):
                block = _SKIPPED.sub(b"", b"\n" + block)[1:]
            if delimiter is None:
                block = _squeeze(block)
            if block:
                yield block

    def text_blocks(self) -> Iterator[bytes]:
        """The whole text as UTF-8, in blocks of whole lines.

        Raises:
            UserError: The file cannot be read, or is not text.
        """
        number, self.foreign = 0, 0
        for block in self._raw_blocks():
            if b"\r" in block:
                block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if not block.endswith(b"\n"):
                block += b"\n"
            if b"\0" in block:
                line = number + block[: block.index(b"\0")].count(b"\n") + 1
                raise UserError(
                    f"{self.path}, line {line}: a NUL byte, which no text has; save the file as"
                    " UTF-8 text"
                )
            if not block.isascii():
                block = self._as_utf8(block, number)
            number += block.count(b"\n")
            yield block

    def _as_utf8(self, block: bytes, before: int) -> bytes:
        try:
            block.decode()
            return block
        except UnicodeDecodeError:
            lines = enumerate(block.split(b"\n"), before + 1)
            return b"\n".join(self._line_as_utf8(line, number) for number, line in lines)

    def _line_as_utf8(self, line: bytes, number: int) -> bytes:
        try:
            line.decode()
            return line
        except UnicodeDecodeError:
            self.foreign += 1
        try:
            return line.decode("cp1252").encode()
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}, line {number}: neither UTF-8 nor Windows-1252; save the file as"
                " UTF-8"
            ) from None

    def _raw_blocks(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                block = file.read(_BLOCK_BYTES) + file.readline()
                while block.startswith(_BYTE_ORDER_MARK):
                    block = block.removeprefix(_BYTE_ORDER_MARK)
                while block:
                    yield block
                    block = file.read(_BLOCK_BYTES) + file.readline()
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise UserError(f"{self.path} is not a whole gzip file; download it again") from None
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot read {self.path}: {reason}; check the path") from None

    def _open(self) -> IO[bytes]:
        with self.path.open("rb") as file:
            start = file.read(8)
        for mark, kind in _OTHER_FILES.items():
            if start.startswith(mark):
                raise UserError(f"{self.path} is {kind}")
        if start.startswith(b"\x1f\x8b"):
            return cast(IO[bytes], gzip.open(self.path, "rb"))
        return self.path.open("rb")


def _squeeze(block: bytes) -> bytes:
    """The block with one tab for each run of spaces and tabs, and none at the ends of lines."""
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
