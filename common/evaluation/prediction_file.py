"""Prediction files: reading any predictor's, writing our own.

A line is `protein_a protein_b score_or_label`, or PRING's `protein_a protein_b label p_negative
p_positive`, separated by tabs or spaces; a `.gz` name means gzip; a first line without numbers, or
proteins that are asked for, is a header. The table that own pairs are written as (`SCORED_PAIRS`)
is read as well: its probability is the score. A line that is none of this is refused with its
number.

Two million lines take about a second: Arrow parses regular files in blocks and ids become int32
codes. What Arrow does not take is read again line by line, which finds the line to blame.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import shorten_uniprot
from common.errors import UserError, excerpt
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import CALL, Codes, Predictions
from common.files import explain_no_text, write_atomically

SCORED_PAIRS = ("protein_a", "protein_b", "probability", "call")
BELOW_CALL = float(np.nextafter(CALL, 0))
BLOCK_BYTES = 8 << 20
LINES_AT_A_TIME = 1 << 16
COMPRESSION = 4  # of gzip: within 5 % of the size at 6, in less than half the time
BLANKS = re.compile(rb"[\t ]+")
EDGE_BLANKS = re.compile(rb"^\t|\t(?=\r?$)", re.M)
# What may be meant for a number, with a decimal comma or a percent sign.
NUMBER_LIKE = re.compile(r"[\"'<>=~+-]*[.,]?\d|[+-]?(nan|inf(inity)?)\b", re.A | re.I)
# As Arrow reads numbers, the `-nan(ind)` of some C libraries too; `float` alone takes `1_0` for 10.
NUMBER = re.compile(r"[+-]?(nan(\(\w*\))?|inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.A | re.I)


def read_predictions(path: str | Path, asked: Collection[str] | None = None) -> Predictions:
    """Reads a prediction file.

    Of five columns the score is 0.5 + (p_positive - p_negative) / 2: p_positive, where the two add
    up to 1, and in any case at least 0.5 exactly where the benchmark adds an edge, which is where
    p_positive > p_negative. Their label is the truth and is not read.

    Args:
        path: The file.
        asked: The proteins that matter; all if None. Lines that name another are counted and
            forgotten, so that what is held follows from these, not from the file.

    Returns:
        The predictions; those of an empty file are empty and have a note.

    Raises:
        UserError: The file cannot be read, a line has another form, or none names a protein that
            is asked for.
    """
    path = Path(path)
    try:
        layout = _find_layout(path, asked)
        if layout is None:
            return Predictions.gather(
                [], np.empty((0, 2), np.int32), np.empty(0), [f"{path} is empty: nothing predicted"]
            )
        return _read(path, layout, asked)
    except UnicodeDecodeError:
        raise UserError(explain_no_text(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot read {path}: {reason}; check the path, and that it is whole, and gzip exactly"
            " if its name ends in .gz"
        ) from None


class _Layout(NamedTuple):
    """The form that the first line shows: number of columns, what parts them, a header or not."""

    columns: int
    delimiter: str | None  # None: white space that only the patient reader can split
    header_line: int  # 0: there is none

    @property
    def numbers(self) -> list[int]:
        """Which columns hold the numbers that make the score."""
        return [3, 4] if self.columns == 5 else [2]

    def notes(self) -> list[str]:
        if not self.header_line:
            return []
        return [f"line {self.header_line} has no numbers and is taken for a header"]


def _find_layout(path: Path, asked: Collection[str] | None) -> _Layout | None:
    """The layout by the first line that is not blank; None if there is no such line."""
    with _open_text(path) as file:
        first = next(((i, line) for i, line in enumerate(file, 1) if line.split()), None)
    if first is None:
        return None
    number, line = first
    fields = _split_first(line)
    # Of four columns the score could be any; only our own are known by their header.
    if len(fields) not in (3, 5) and tuple(fields) != SCORED_PAIRS:
        raise _malformed(path, number, fields)
    exact = (mark for mark in ("\t", " ") if line.rstrip("\r\n").split(mark) == fields)
    is_header = _is_header(fields, asked)
    return _Layout(len(fields), next(exact, None), number if is_header else 0)


def _split_first(line: str) -> list[str]:
    """The columns of the first line; a header's names may have spaces where tabs part them."""
    by_tabs = [part.strip() for part in line.split("\t")]
    return by_tabs if len(by_tabs) in (3, 5) and all(by_tabs) else line.split()


def _is_header(fields: list[str], asked: Collection[str] | None) -> bool:
    """Whether a first line names columns: no number, nothing like one, no protein asked for.

    A first pair with the score `NA` or `0,85` is none: its line is refused, not passed over.
    """
    if any(NUMBER_LIKE.match(field) for field in fields[2:]):
        return False
    return asked is None or not any(shorten_uniprot(name) in asked for name in fields[:2])


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig")


def _open_bytes(path: Path) -> IO[bytes]:
    if path.suffix != ".gz":
        return path.open("rb")
    if not path.stat().st_size:
        raise EOFError("it holds nothing, not even the head of a gzip file")
    return cast(IO[bytes], gzip.open(path, "rb"))


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _malformed(path: Path, number: int, fields: list[str]) -> UserError:
    return UserError(
        f"{path}, line {number}: '{excerpt(' '.join(fields))}' is neither 'protein_a protein_b"
        " score' nor 'protein_a protein_b label p_negative p_positive' (apart by tabs or spaces,"
        " all lines alike); correct or remove the line"
    )


def _unlike(path: Path, number: int, fields: list[str], layout: _Layout) -> UserError:
    return UserError(
        f"{path}, line {number}: '{excerpt(' '.join(fields))}' has {len(fields)} columns, but the"
        f" first line that is not blank has {layout.columns}, and all must be alike; correct or"
        " remove either"
    )


def _no_number(path: Path, number: int, text: str) -> UserError:
    return UserError(
        f"{path}, line {number}: '{excerpt(text)}' is no number such as 0.85 (a decimal point, no"
        " % and no quotes; NaN for not predicted); correct or remove the line"
    )


@dataclass
class _Ids:
    """Numbers for the ids that are asked for, as they turn up; -1 for all others.

    Attributes:
        asked: The ids that matter; all if None.
        codes: The number of each that has turned up.
        foreign: One that is not asked for, the first by name.
    """

    asked: Collection[str] | None
    codes: dict[str, int] = field(default_factory=dict)
    foreign: str | None = None

    def number(self, name: str) -> int:
        """The id's number; a UniProt name (`sp|P12345|NAME`) means its accession."""
        if self.asked is None or name not in self.asked:
            name = shorten_uniprot(name)
        if self.asked is None or name in self.asked:
            return self.codes.setdefault(name, len(self.codes))
        self.foreign = name if self.foreign is None else min(self.foreign, name)
        return -1


class _Block(NamedTuple):
    """Some lines of the file: (R,) codes of either side, and (K, R) float64 numbers."""

    first: Codes
    second: Codes
    numbers: FloatArray

    @classmethod
    def empty(cls, layout: _Layout) -> _Block:
        """No lines."""
        none = np.empty(0, np.int32)
        return cls(none, none, np.empty((len(layout.numbers), 0)))

    def asked(self) -> _Block:
        """The lines of which both proteins are asked for."""
        kept = (self.first >= 0) & (self.second >= 0)
        return _Block(self.first[kept], self.second[kept], self.numbers[:, kept])


def _read(path: Path, layout: _Layout, asked: Collection[str] | None) -> Predictions:
    for parse in (_arrow_blocks, _squeezed_blocks, _patient_blocks):
        ids = _Ids(None if asked is None else frozenset(asked))
        try:
            lines, kept = _parse(parse(path, layout, ids))
            break
        except (ValueError, OSError):  # pyarrow's ArrowInvalid is a ValueError
            if parse is _patient_blocks:
                raise
    if ids.foreign is not None and not any(len(block.first) for block in kept):
        raise _foreign(path, ids)
    empty = _Block.empty(layout)
    first, second = (np.concatenate([block[side] for block in (empty, *kept)]) for side in (0, 1))
    scores = _scores(np.concatenate([block.numbers for block in (empty, *kept)], axis=1))
    notes = [*layout.notes(), *_foreign_notes(lines - len(first), ids.foreign)]
    return Predictions.gather(list(ids.codes), np.stack([first, second], axis=1), scores, notes)


def _parse(blocks: Iterator[_Block]) -> tuple[int, list[_Block]]:
    """How many lines there are, and those that are asked for: the others are let go at once."""
    lines, kept = 0, []
    for block in blocks:
        lines += len(block.first)
        kept.append(block.asked())
    return lines, kept


def _scores(numbers: FloatArray) -> FloatArray:
    """The score of every line, (R,) float64, from its (1, R) or (2, R) numbers."""
    if len(numbers) == 1:
        score: FloatArray = numbers[0]
        return score
    negative, positive = numbers
    # Infinite scores are scores; the difference of two equal ones is NaN, and means a tie.
    with np.errstate(invalid="ignore"):
        margin = CALL + np.where(positive == negative, 0.0, positive - negative) / 2
    called = positive > negative
    margin = np.where(called, np.maximum(margin, CALL), np.minimum(margin, BELOW_CALL))
    return np.where(np.isnan(numbers).any(axis=0), np.nan, margin)


def _foreign_notes(count: int, example: str | None) -> list[str]:
    if not count or example is None:
        return []
    return [
        f"{count} lines name a protein that no task looks at (such as '{excerpt(example)}') and"
        " are ignored"
    ]


def _foreign(path: Path, ids: _Ids) -> UserError:
    """That the file is of another naming: it would be judged as one that predicts nothing."""
    assert ids.asked is not None
    assert ids.foreign is not None
    marked = any(mark in ids.foreign for mark in ",;\"'")
    return UserError(
        f"no line of {path} names two of the {len(ids.asked)} proteins that the tasks look at: its"
        f" ids are such as '{excerpt(ids.foreign)}', the benchmark's such as"
        f" '{excerpt(min(ids.asked))}'; "
        + (
            "part its columns by tabs or spaces alone, without quotes"
            if marked
            else "translate them, or choose the species they belong to"
        )
    )


def _arrow_blocks(path: Path, layout: _Layout, ids: _Ids) -> Iterator[_Block]:
    """Parses in blocks of a few megabytes; raises ValueError or OSError for what is irregular."""
    import pyarrow as pa

    if layout.delimiter is None:
        raise ValueError("white space that Arrow cannot split")
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        yield from _parse_blocks(stream, layout, layout.delimiter, ids)


def _squeezed_blocks(path: Path, layout: _Layout, ids: _Ids) -> Iterator[_Block]:
    """The same for whatever tabs and spaces part the columns, in two to three times the time."""
    with _open_bytes(path) as file:
        yield from _parse_blocks(_Squeezed(file), layout, "\t", ids)


class _Squeezed(io.RawIOBase):
    """A file with one tab for each run of tabs and spaces, and none at the ends of lines."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file = file

    def readable(self) -> bool:
        """Arrow asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Whole lines, about as many bytes as asked for; none at the end of the file."""
        text: bytes = self.file.read(size) + self.file.readline()
        return EDGE_BLANKS.sub(b"", BLANKS.sub(b"\t", text))


def _parse_blocks(stream: Any, layout: _Layout, delimiter: str, ids: _Ids) -> Iterator[_Block]:
    import pyarrow as pa
    from pyarrow import csv

    names = [str(column) for column in range(layout.columns)]
    wanted = ["0", "1", *map(str, layout.numbers)]
    text = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(wanted[:2], text) | dict.fromkeys(wanted[2:], pa.float64())
    for batch in csv.open_csv(
        stream,
        csv.ReadOptions(column_names=names, skip_rows=layout.header_line, block_size=BLOCK_BYTES),
        csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False),
        csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
    ):
        first, second = (_encode(column, ids) for column in batch.columns[:2])
        yield _Block(first, second, np.stack([c.to_numpy() for c in batch.columns[2:]]))


def _encode(column: Any, ids: _Ids) -> Codes:
    """Numbers of a dictionary-encoded Arrow column of ids."""
    names = column.dictionary.to_pylist()
    # Of what looks like a space, only the common one is printable.
    if not all(name and name.isprintable() and " " not in name for name in names):
        raise ValueError("an id that is empty, has white space, or cannot be seen whole")
    places = np.array([ids.number(name) for name in names], dtype=np.int32)
    found: Codes = places[column.indices.to_numpy()]
    return found


def _patient_blocks(path: Path, layout: _Layout, ids: _Ids) -> Iterator[_Block]:
    """Parses line by line whatever white space there is; refuses a line by its number."""
    with _open_text(path) as file:
        lines = enumerate(file, 1)
        while some := list(itertools.islice(lines, LINES_AT_A_TIME)):
            kept = [(number, line.split()) for number, line in some]
            kept = [(number, fields) for number, fields in kept if fields]
            rows = [
                _parse_line(path, number, fields, layout, ids)
                for number, fields in kept
                if number != layout.header_line
            ]
            ends = np.array([row[:2] for row in rows], dtype=np.int32).reshape(-1, 2)
            numbers = np.array([row[2:] for row in rows], dtype=np.float64)
            yield _Block(ends[:, 0], ends[:, 1], numbers.reshape(-1, len(layout.numbers)).T)


def _parse_line(
    path: Path, number: int, fields: list[str], layout: _Layout, ids: _Ids
) -> tuple[float, ...]:
    if len(fields) != layout.columns and len(fields) in (3, 5):
        raise _unlike(path, number, fields, layout)
    if len(fields) != layout.columns or not "".join(fields[:2]).isprintable():
        raise _malformed(path, number, fields)
    texts = [fields[column] for column in layout.numbers]
    for text in texts:
        if not _is_number(text):
            raise _no_number(path, number, text)
    values = [float(text.partition("(")[0]) for text in texts]
    return *(ids.number(name) for name in fields[:2]), *values


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]],
) -> None:
    """Writes `protein_a protein_b score` lines, tab-separated, in the given order.

    Scores are written with as many digits as give the same number again in their own type: what
    `Predictions.scores` holds comes back the same. The same input gives the same bytes.

    Args:
        path: The file; gzip if the name ends in .gz. An older file is replaced in one step.
        ids: Protein ids.
        pairs: (P, 2) indices into `ids`.
        scores: (P,) float32 or float64.

    Raises:
        UserError: The file cannot be written.
    """
    path = Path(path)
    content = io.BytesIO()
    if path.suffix == ".gz":
        with gzip.GzipFile("", "wb", COMPRESSION, content, mtime=0) as packed:
            _write_lines(cast(IO[bytes], packed), ids, pairs, scores)
    else:
        _write_lines(content, ids, pairs, scores)
    write_atomically(path, content.getvalue())


def _write_lines(
    file: IO[bytes],
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]],
) -> None:
    import pyarrow as pa
    from pyarrow import csv

    if any('"' in name for name in ids):
        # Arrow would quote them, or refuse; nobody who reads such files unquotes.
        for (a, b), score in zip(pairs.tolist(), scores, strict=True):
            file.write(f"{ids[a]}\t{ids[b]}\t{score!s}\n".encode())
        return
    names = pa.array(ids, type=pa.string())
    sides = [names.take(pa.array(side)) for side in pairs.reshape(-1, 2).T]
    table = pa.table([*sides, pa.array(scores)], names=["a", "b", "score"])
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    csv.write_csv(table, file, options)
