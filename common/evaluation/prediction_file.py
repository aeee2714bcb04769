"""Prediction files: reading any predictor's, writing our own.

A line is `protein_a protein_b score_or_label`, or PRING's `protein_a protein_b label p_negative
p_positive`, separated by tabs or spaces; a `.gz` name means gzip; a first line without numbers is a
header. The table that own pairs are written as (`SCORED_PAIRS`) is read as well: its probability is
the score. A line that is none of this is refused with its number.

Two million lines take about a second: Arrow parses regular files in blocks and ids become int32
codes. What Arrow does not take is read again line by line, which finds the line to blame.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError, excerpt
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import CALL, Codes, Predictions
from common.files import write_atomically

SCORED_PAIRS = ("protein_a", "protein_b", "probability", "call")
BELOW_CALL = float(np.nextafter(CALL, 0))
BELOW_NOTICE = 1e-6  # what rounding two probabilities to a few digits explains
BLOCK_BYTES = 8 << 20
LINES_AT_A_TIME = 1 << 16
COMPRESSION = 4  # of gzip: within 5 % of the size at 6, in less than half the time
# As Arrow reads numbers, the `-nan(ind)` of some C libraries too; `float` alone takes `1_0` for 10.
NUMBER = re.compile(r"[+-]?(nan(\(\w*\))?|inf(inity)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)", re.A | re.I)


def read_predictions(path: str | Path) -> Predictions:
    """Reads a prediction file.

    Of five columns the score is p_positive, moved to the side of 0.5 that `p_positive > p_negative`
    says where the two disagree, so that a threshold of 0.5 makes the benchmark's calls; their label
    is the truth and is not read.

    Returns:
        The predictions; those of an empty file are empty and have a note.

    Raises:
        UserError: The file cannot be read, or a line has another form.
    """
    path = Path(path)
    try:
        layout = _find_layout(path)
        if layout is None:
            return Predictions.gather(
                [], np.empty((0, 2), np.int32), np.empty(0), [f"{path} is empty: nothing predicted"]
            )
        return _read(path, layout)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot read {path}: {reason}; check the path, and that it is whole, UTF-8, and gzip "
            "exactly if its name ends in .gz"
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


def _find_layout(path: Path) -> _Layout | None:
    """The layout by the first line that is not blank; None if there is no such line."""
    with _open_text(path) as file:
        first = next(((i, line) for i, line in enumerate(file, 1) if line.split()), None)
    if first is None:
        return None
    number, line = first
    fields = line.split()
    # Of four columns the score could be any; only our own are known by their header.
    if len(fields) not in (3, 5) and tuple(fields) != SCORED_PAIRS:
        raise _malformed(path, number, fields)
    exact = (mark for mark in ("\t", " ") if line.rstrip("\r\n").split(mark) == fields)
    is_header = not any(map(_is_number, fields[2:]))
    return _Layout(len(fields), next(exact, None), number if is_header else 0)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        if not path.stat().st_size:
            raise EOFError("it holds nothing, not even the head of a gzip file")
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig"))
    return path.open(encoding="utf-8-sig")


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


def _to_number(text: str) -> float:
    if not _is_number(text):
        raise ValueError("not a number")
    return float(text.partition("(")[0])


def _malformed(path: Path, number: int, fields: list[str]) -> UserError:
    return UserError(
        f"{path}, line {number}: '{excerpt(' '.join(fields))}' is neither 'protein_a protein_b"
        " score' nor 'protein_a protein_b label p_negative p_positive' (apart by tabs or spaces,"
        " all lines alike); correct or remove the line"
    )


class _Block(NamedTuple):
    """Some lines of the file: (R,) codes of either side, and (K, R) float64 numbers."""

    first: Codes
    second: Codes
    numbers: FloatArray

    def scores(self) -> FloatArray:
        """The score of every line, (R,) float64; see `read_predictions` for five columns."""
        positive: FloatArray = self.numbers[-1]
        if len(self.numbers) == 1:
            return positive
        negative = self.numbers[0]
        moved = np.where(
            positive > negative, np.maximum(positive, CALL), np.minimum(positive, BELOW_CALL)
        )
        scores: FloatArray = np.where(np.isnan(negative) | np.isnan(positive), np.nan, moved)
        return scores


def _read(path: Path, layout: _Layout) -> Predictions:
    codes: dict[str, int] = {}
    try:
        blocks = list(_arrow_blocks(path, layout, codes))
    except (ValueError, OSError):  # pyarrow's ArrowInvalid is a ValueError
        codes = {}
        blocks = list(_patient_blocks(path, layout, codes))
    pairs = [np.stack([block.first, block.second], axis=1) for block in blocks]
    # Infinite scores are scores; their differences are NaN and no cause for a warning.
    with np.errstate(invalid="ignore"):
        scores = [block.scores() for block in blocks]
        moved = sum(
            int((np.abs(score - block.numbers[-1]) > BELOW_NOTICE).sum())
            for score, block in zip(scores, blocks, strict=True)
        )
    return Predictions.gather(
        list(codes),
        np.concatenate([np.empty((0, 2), np.int32), *pairs]),
        np.concatenate([np.empty(0), *scores]),
        [*layout.notes(), *_moved_note(moved)],
    )


def _moved_note(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"{count} lines have p_positive on the other side of 0.5 than p_positive > p_negative says;"
        " the latter decides"
    ]


def _arrow_blocks(path: Path, layout: _Layout, codes: dict[str, int]) -> Iterator[_Block]:
    """Parses in blocks of a few megabytes; raises ValueError or OSError for what is irregular."""
    import pyarrow as pa
    from pyarrow import csv

    if layout.delimiter is None:
        raise ValueError("white space that Arrow cannot split")
    names = [str(column) for column in range(layout.columns)]
    wanted = ["0", "1", *map(str, layout.numbers)]
    text = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(wanted[:2], text) | dict.fromkeys(wanted[2:], pa.float64())
    with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        for batch in csv.open_csv(
            stream,
            csv.ReadOptions(
                column_names=names, skip_rows=layout.header_line, block_size=BLOCK_BYTES
            ),
            csv.ParseOptions(delimiter=layout.delimiter, quote_char=False, double_quote=False),
            csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[]),
        ):
            first, second = (_encode(column, codes) for column in batch.columns[:2])
            yield _Block(first, second, np.stack([c.to_numpy() for c in batch.columns[2:]]))


def _encode(column: Any, codes: dict[str, int]) -> Codes:
    """Codes of a dictionary-encoded Arrow column of ids; new ids get the next code."""
    names = column.dictionary.to_pylist()
    # Of what looks like a space, only the common one is printable.
    if not all(name and name.isprintable() and " " not in name for name in names):
        raise ValueError("an id that is empty, has white space, or cannot be seen whole")
    places = np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.int32)
    found: Codes = places[column.indices.to_numpy()]
    return found


def _patient_blocks(path: Path, layout: _Layout, codes: dict[str, int]) -> Iterator[_Block]:
    """Parses line by line whatever white space there is; refuses a line by its number."""
    with _open_text(path) as file:
        lines = enumerate(file, 1)
        while some := list(itertools.islice(lines, LINES_AT_A_TIME)):
            kept = [(number, line.split()) for number, line in some]
            kept = [(number, fields) for number, fields in kept if fields]
            rows = [
                _parse_line(path, number, fields, layout, codes)
                for number, fields in kept
                if number != layout.header_line
            ]
            ends = np.array([row[:2] for row in rows], dtype=np.int32).reshape(-1, 2)
            numbers = np.array([row[2:] for row in rows], dtype=np.float64)
            yield _Block(ends[:, 0], ends[:, 1], numbers.reshape(-1, len(layout.numbers)).T)


def _parse_line(
    path: Path, number: int, fields: list[str], layout: _Layout, codes: dict[str, int]
) -> tuple[float, ...]:
    try:
        if len(fields) != layout.columns or not "".join(fields[:2]).isprintable():
            raise ValueError("another number of columns, or an id that cannot be seen whole")
        values = [_to_number(fields[column]) for column in layout.numbers]
    except ValueError:
        raise _malformed(path, number, fields) from None
    return *(codes.setdefault(name, len(codes)) for name in fields[:2]), *values


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
