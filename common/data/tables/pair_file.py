"""Reads and writes delimited files of protein pairs: labelled pairs, predictions, the user's pairs.

A line contains two protein ids and, depending on the kind of file (`PairFormat`), numbers. Columns
are separated by tabs, spaces or commas, and all lines have the same form; lines that begin with `#`
are comments; a name that ends in `.gz` means gzip. UniProt names (`sp|P12345|NAME`) are read as
accessions. A line of another form raises an error with the line number.

Arrow parses regular files in blocks: two million lines take about a second. A file that Arrow
refuses is read again line by line, which accepts any white space and finds the faulty line.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from common.data.tables.ids import shorten_uniprot
from common.data.tables.text import open_text
from common.errors import UserError, excerpt
from common.files import write_atomically

_BLOCK_BYTES = 8 << 20
_LINES_AT_A_TIME = 1 << 16
COMPRESSION = 4  # gzip level: within 5 % of the size at level 6, in less than half the time
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
        ragged: Whether lines may differ in their number of columns.
        unknown: Explains why the line of a protein that was not requested is refused; if None,
            such lines are skipped and counted.
    """

    expected: str
    numbers: Callable[[list[str]], tuple[int, ...] | None]
    is_header: Callable[[list[str]], bool] = lambda fields: False
    labels: bool = False
    ragged: bool = False
    unknown: Callable[[str], str] | None = None


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
    layout = _find_layout(path, form)
    if layout is None:
        return None
    try:
        return _collect(_arrow_blocks, path, layout, _Ids(asked))
    except (ValueError, OSError):  # Arrow's own errors are ValueErrors
        return _collect(_patient_blocks, path, layout, _Ids(asked))


class _Layout(NamedTuple):
    """The layout of a pair file, inferred from its first line.

    Attributes:
        form: The kind of file.
        first: The number of the first line that is neither blank nor a comment.
        columns: The number of columns of the first line.
        numbers: The indices of the numeric columns.
        comma: Whether commas separate the columns.
        delimiter: The character by which Arrow can split lines; None if there is none.
        has_header: Whether the first line is a header.
    """

    form: PairFormat
    first: int
    columns: int
    numbers: tuple[int, ...]
    comma: bool
    delimiter: str | None
    has_header: bool

    @property
    def skipped(self) -> int:
        """The number of lines before the first pair."""
        return self.first if self.has_header else self.first - 1


def _find_layout(path: Path, form: PairFormat) -> _Layout | None:
    with open_text(path) as file:
        found = ((i, line) for i, line in enumerate(file, 1) if _split(line, comma=False))
        number, line = next(found, (0, ""))
    if not number:
        return None
    fields, comma = _split_first(line, form)
    numbers = form.numbers(fields)
    if numbers is None:
        raise _malformed(path, number, line, form)
    exact = (mark for mark in ("\t", " ", ",") if line.rstrip("\n").split(mark) == fields)
    header = form.is_header(fields)
    return _Layout(form, number, len(fields), numbers, comma, next(exact, None), header)


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


def _split(line: str, comma: bool) -> list[str]:
    """Split a line into columns; return an empty list for a blank line or a comment."""
    fields = [part.strip() for part in line.split(",")] if comma else line.split()
    return fields if line.strip() and fields[0][:1] != "#" else []


def _has_blank(names: Sequence[str]) -> bool:
    return any(len(name.split()) != 1 for name in names)


def names_columns(fields: Sequence[str]) -> bool:
    """Return whether a line may be a header: no column after the ids looks like a number.

    A first pair with the score `0,85` is not a header: such a line is an error and not skipped.
    """
    return "".join(fields).isprintable() and not any(map(_NUMBER_LIKE.match, fields[2:]))


@dataclass
class _Ids:
    """Numbers the requested ids in the order of their appearance; any other id gets −1."""

    asked: Collection[str] | None
    codes: dict[str, int] = field(default_factory=dict)
    foreign: str | None = None  # the first id by name that was not requested

    def number(self, name: str) -> int:
        if self.asked is None or name not in self.asked:
            name = shorten_uniprot(name)
        if self.asked is None or name in self.asked:
            return self.codes.setdefault(name, len(self.codes))
        self.foreign = name if self.foreign is None else min(self.foreign, name)
        return -1


class _Block(NamedTuple):
    """A block of lines of a pair file: id codes (2, R), and float64 numbers (K, R)."""

    codes: NDArray[np.int32]
    numbers: NDArray[np.float64]


def _collect(
    parse: Callable[[Path, _Layout, _Ids], Iterator[_Block]],
    path: Path,
    layout: _Layout,
    ids: _Ids,
) -> PairRows:
    """Parse all blocks, drop the lines of proteins that were not requested, and join the rest."""
    count, kept = 0, [_Block(np.empty((2, 0), np.int32), np.empty((len(layout.numbers), 0)))]
    for block in parse(path, layout, ids):
        asked = (block.codes[0] >= 0) & (block.codes[1] >= 0)
        kept.append(_Block(block.codes[:, asked], block.numbers[:, asked]))
        count += len(asked)
    codes, numbers = (np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))
    header = layout.first if layout.has_header else 0
    skipped = count - codes.shape[1]
    return PairRows(list(ids.codes), codes.T, numbers, header, skipped, ids.foreign)


def _arrow_blocks(path: Path, layout: _Layout, ids: _Ids) -> Iterator[_Block]:
    """Parse the file in blocks with Arrow; raise ValueError or OSError for irregular content."""
    if layout.delimiter is None:
        raise ValueError("white space that Arrow cannot split")
    names = [str(column) for column in range(layout.columns)]
    wanted = ["0", "1", *map(str, layout.numbers)]
    text = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(wanted[:2], text) | dict.fromkeys(wanted[2:], pa.float64())
    compression = "gzip" if path.suffix == ".gz" else None
    with pa.input_stream(str(path), compression=compression) as stream:
        for batch in csv.open_csv(
            stream,
            csv.ReadOptions(column_names=names, skip_rows=layout.skipped, block_size=_BLOCK_BYTES),
            csv.ParseOptions(delimiter=layout.delimiter, quote_char=False, double_quote=False),
            csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
        ):
            codes = np.stack([_encode(column, ids) for column in batch.columns[:2]])
            numbers = [column.to_numpy() for column in batch.columns[2:]]
            block = _Block(codes, np.array(numbers).reshape(-1, len(batch)))
            if layout.form.labels and not np.isin(block.numbers, (0, 1)).all():
                raise ValueError("a label that is neither 0 nor 1")
            if layout.form.unknown and ids.foreign is not None:
                raise ValueError("an id that was not asked for")
            yield block


def _encode(column: Any, ids: _Ids) -> NDArray[np.int32]:
    """Convert a dictionary-encoded Arrow column of ids to the numbers that `ids` assigns."""
    names = column.dictionary.to_pylist()
    # The space is the only white space that is printable.
    if not all(name and name.isprintable() and " " not in name for name in names):
        raise ValueError("an id that is empty, contains white space or non-printable characters")
    if any(name.startswith("#") for name in names):
        raise ValueError("a line that may be a comment")
    codes = np.array([ids.number(name) for name in names], dtype=np.int32)
    found: NDArray[np.int32] = codes[column.indices.to_numpy()]
    return found


def _patient_blocks(path: Path, layout: _Layout, ids: _Ids) -> Iterator[_Block]:
    """Parse the file line by line, accepting any white space; errors give the line number."""
    width = 2 + len(layout.numbers)
    with open_text(path) as file:
        lines = itertools.islice(enumerate(file, 1), layout.skipped, None)
        while some := list(itertools.islice(lines, _LINES_AT_A_TIME)):
            parsed = (_parse_line(path, number, line, layout, ids) for number, line in some)
            rows = np.array([row for row in parsed if row], dtype=np.float64).reshape(-1, width)
            yield _Block(rows[:, :2].T.astype(np.int32), rows[:, 2:].T)


def _parse_line(
    path: Path, number: int, line: str, layout: _Layout, ids: _Ids
) -> tuple[float, ...] | None:
    """Return the id codes and numbers of a line, or None for a blank line or a comment."""
    form, fields = layout.form, _split(line, layout.comma)
    if not fields:
        return None
    if len(fields) != layout.columns and not (form.ragged and len(fields) >= 2):
        raise UserError(
            f"{path}, line {number}: '{_shown(line)}' has {len(fields)} columns, but line"
            f" {layout.first} has {layout.columns}, and all lines must have the same form"
            f" ({form.expected}); correct or remove one of the two lines"
        )
    if (layout.comma and _has_blank(fields[:2])) or not (fields[0] + fields[1]).isprintable():
        raise _malformed(path, number, line, form)
    codes = tuple(map(ids.number, fields[:2]))
    for name, code in zip(fields, codes, strict=False):
        if code < 0 and form.unknown:
            raise UserError(f"{path}, line {number}: {form.unknown(name)}")
    return *codes, *(_parse_number(path, number, fields[column], form) for column in layout.numbers)


def _parse_number(path: Path, number: int, text: str, form: PairFormat) -> float:
    is_number = _NUMBER.fullmatch(text)
    value = float(text.partition("(")[0]) if is_number else np.nan
    if form.labels and value not in (0, 1):
        raise UserError(
            f"{path}, line {number}: the label '{excerpt(text)}' is neither 0 nor 1; correct or"
            " remove the line"
        )
    if not is_number:
        raise UserError(
            f"{path}, line {number}: '{excerpt(text)}' is not a number such as 0.85 (with a decimal"
            " point, without % or quotes, or NaN if not predicted); correct or remove the line"
        )
    return value


def _malformed(path: Path, number: int, line: str, form: PairFormat) -> UserError:
    return UserError(
        f"{path}, line {number}: '{_shown(line)}' is not {form.expected} (columns separated by"
        " tabs, spaces or commas, the same in all lines); correct or remove the line"
    )


def _shown(line: str) -> str:
    return excerpt(" ".join(line.split()))


def write_pair_file(
    path: Path,
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    columns: Mapping[str, NDArray[Any]],
    header: bool = False,
) -> None:
    """Write a file of protein pairs: tab-separated lines of two ids and the given columns.

    Floats are written with the fewest digits from which the same number of the same type can be
    read back. The same input gives the same bytes, whatever the name of the file.

    Args:
        path: The file; gzip if the name ends in .gz. An existing file is replaced in one step.
        ids: Protein ids.
        pairs: (P, 2) indices into `ids`.
        columns: The (P,) values of the further columns, by name.
        header: Whether to write the names of the columns in the first line.

    Raises:
        UserError: The file cannot be written.
    """
    content = io.BytesIO()
    with contextlib.ExitStack() as opened:
        file: IO[bytes] = content
        if path.suffix == ".gz":
            packed = opened.enter_context(gzip.GzipFile("", "wb", COMPRESSION, content, mtime=0))
            file = cast(IO[bytes], packed)
        if header:
            file.write("\t".join(("protein_a", "protein_b", *columns)).encode() + b"\n")
        write_lines(file, ids, pairs, columns)
    write_atomically(path, content.getvalue())


def write_lines(
    file: IO[bytes],
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    columns: Mapping[str, NDArray[Any]],
    delimiter: str = "\t",
) -> None:
    """Write one line per pair (P, 2) of `ids` with the (P,) further columns, without quotes."""
    names = pa.array(ids, type=pa.string())
    sides = [names.take(pa.array(side)) for side in pairs.reshape(-1, 2).T]
    values = map(pa.array, columns.values())
    table = pa.table([*sides, *values], names=["protein_a", "protein_b", *columns])
    used = pa.chunked_array([*table[0].chunks, *table[1].chunks], pa.string()).unique()
    if any(mark in name for name in used.to_pylist() for mark in ('"', delimiter)):
        # Arrow would quote or refuse ids that contain a quote or the delimiter.
        for row in zip(*(column.to_numpy() for column in table.columns), strict=True):
            file.write(delimiter.join(map(str, row)).encode() + b"\n")
        return
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    csv.write_csv(table, file, options)
