"""Read and write delimited files of protein pairs: labelled pairs, predictions, a user's own pairs.

A line holds two protein ids and, depending on the kind of file (`PairFormat`), numbers. Columns are
separated by tabs, spaces or commas, and all lines are alike; lines that begin with `#` are
comments; a name that ends in `.gz` means gzip. UniProt names (`sp|P12345|NAME`) are read as their
accessions. A line of another form is refused with its number.

Arrow parses regular files in blocks: two million lines take about a second. Whatever Arrow refuses
is read again line by line, which accepts any white space and finds the line to blame.
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
# As Arrow reads numbers, and the `-nan(ind)` of some C libraries; `float` would take `1_0` for 10.
_NUMBER = re.compile(r"[+-]?(nan(\(\w*\))?|inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.A | re.I)


@dataclass(frozen=True)
class PairFormat:
    """The form of one kind of pair file.

    Attributes:
        expected: What a line looks like, for messages.
        numbers: Given the columns of the first line, which columns are read as numbers; None if
            that line is of no known form.
        is_header: Whether a first line names the columns.
        labels: Whether the numbers are labels, 0 or 1.
        ragged: Whether lines may differ in their number of columns.
        unknown: Explains, for a protein that was not asked for, why its line is refused; if None,
            such lines are skipped and counted.
    """

    expected: str
    numbers: Callable[[list[str]], tuple[int, ...] | None]
    is_header: Callable[[list[str]], bool] = lambda fields: False
    labels: bool = False
    ragged: bool = False
    unknown: Callable[[str], str] | None = None


class PairRows(NamedTuple):
    """What a pair file contains.

    Attributes:
        ids: Distinct protein ids, in the order of their appearance.
        pairs: (N, 2) int32 indices into `ids`: the lines whose proteins were asked for.
        numbers: (K, N) float64, the columns that are numbers.
        header: The number of the header line; 0 if there is none.
        skipped: How many lines name a protein that was not asked for.
        foreign: One such protein; None if there is none.
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
    """Read a pair file.

    Args:
        path: The file.
        form: What its lines look like.
        asked: The proteins of interest, all if None; the memory needed follows from these, not from
            the size of the file.

    Returns:
        Its rows; None if it has no line besides blank lines and comments.

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
    """The layout that the first line shows.

    Attributes:
        form: The kind of file.
        first: The number of the first line that is neither blank nor a comment.
        columns: How many columns it has.
        numbers: Which of them are numbers.
        comma: Whether commas separate the columns.
        delimiter: The character by which Arrow can split the line; None if there is none.
        has_header: Whether the line is a header.
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
        """How many lines there are before the first pair."""
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
    """Return the columns of the first line, and whether commas separate them.

    Names of columns may contain spaces if tabs or commas separate them; ids may contain commas if
    white space separates them.
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
    """Return the columns of a line; none of a blank line or a comment."""
    fields = [part.strip() for part in line.split(",")] if comma else line.split()
    return fields if line.strip() and fields[0][:1] != "#" else []


def _has_blank(names: Sequence[str]) -> bool:
    return any(len(name.split()) != 1 for name in names)


def names_columns(fields: Sequence[str]) -> bool:
    """Whether a line may be a header: no column after the ids is, or looks like, a number.

    A first pair with the score `0,85` is not a header: its line is refused, not skipped.
    """
    return "".join(fields).isprintable() and not any(map(_NUMBER_LIKE.match, fields[2:]))


@dataclass
class _Ids:
    """Numbers the ids that were asked for as they appear; all others get −1."""

    asked: Collection[str] | None
    codes: dict[str, int] = field(default_factory=dict)
    foreign: str | None = None  # one that was not asked for, the first by name

    def number(self, name: str) -> int:
        if self.asked is None or name not in self.asked:
            name = shorten_uniprot(name)
        if self.asked is None or name in self.asked:
            return self.codes.setdefault(name, len(self.codes))
        self.foreign = name if self.foreign is None else min(self.foreign, name)
        return -1


class _Block(NamedTuple):
    """Some lines of the file: (2, R) codes of the ids, and (K, R) float64 numbers."""

    codes: NDArray[np.int32]
    numbers: NDArray[np.float64]


def _collect(
    parse: Callable[[Path, _Layout, _Ids], Iterator[_Block]],
    path: Path,
    layout: _Layout,
    ids: _Ids,
) -> PairRows:
    """Join the blocks; lines that were not asked for are dropped at once."""
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
    """Parse in blocks of a few megabytes; raises ValueError or OSError for irregular content."""
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
    """Return the codes of a dictionary-encoded Arrow column of ids."""
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
    """Parse line by line, whatever white space there is; refuses a line by its number."""
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
    """Return the codes and numbers of a line; None for a blank line or a comment."""
    form, fields = layout.form, _split(line, layout.comma)
    if not fields:
        return None
    if len(fields) != layout.columns and not (form.ragged and len(fields) >= 2):
        raise UserError(
            f"{path}, line {number}: '{_shown(line)}' has {len(fields)} columns, but line"
            f" {layout.first} has {layout.columns}, and all lines must be alike"
            f" ({form.expected}); correct or remove one of the two"
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
            " point, without % or quotes; NaN means not predicted); correct or remove the line"
        )
    return value


def _malformed(path: Path, number: int, line: str, form: PairFormat) -> UserError:
    return UserError(
        f"{path}, line {number}: '{_shown(line)}' is not {form.expected} (columns separated by"
        " tabs, spaces or commas, all lines alike); correct or remove the line"
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
    """Write tab-separated lines of two ids and further columns, in the given order.

    Floats are written with as many digits as are needed to read back the same number in their own
    type. The same input gives the same bytes, also in a file of another name.

    Args:
        path: The file; gzip if the name ends in .gz. An older file is replaced in one step.
        ids: Protein ids.
        pairs: (P, 2) indices into `ids`.
        columns: The (P,) values of the further columns, by name.
        header: Whether the first line names the columns.

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
    """Write the lines of pairs (P, 2) of `ids`, and their (P,) further columns, as they are."""
    names = pa.array(ids, type=pa.string())
    sides = [names.take(pa.array(side)) for side in pairs.reshape(-1, 2).T]
    values = map(pa.array, columns.values())
    table = pa.table([*sides, *values], names=["protein_a", "protein_b", *columns])
    used = pa.chunked_array([*table[0].chunks, *table[1].chunks], pa.string()).unique()
    if any(mark in name for name in used.to_pylist() for mark in ('"', delimiter)):
        # Arrow would quote such ids or refuse them.
        for row in zip(*(column.to_numpy() for column in table.columns), strict=True):
            file.write(delimiter.join(map(str, row)).encode() + b"\n")
        return
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    csv.write_csv(table, file, options)
