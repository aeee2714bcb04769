"""Read prediction files from any program, and write prediction files.

A line is `protein_a protein_b score_or_label`, or PRING's `protein_a protein_b label p_negative
p_positive`, in all variants that `common/data/tables/pair_file.py` accepts. A first line without
numbers and without requested proteins is a header. A table with the columns `SCORED_PAIRS`, as
RELIC writes for the user's own pairs, is also read; the probability is then the score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import shorten_uniprot
from common.data.tables.pair_file import (
    PairFormat,
    PairRows,
    names_columns,
    read_pair_file,
)
from common.data.tables.pair_writer import write_pair_file
from common.errors import UserError, count_of, excerpt
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import CALL, Predictions

SCORED_PAIRS = ("protein_a", "protein_b", "probability", "call")
BELOW_CALL = float(np.nextafter(CALL, 0))
_EXPECTED = (
    "'protein_a protein_b score' or 'protein_a protein_b label p_negative p_positive'; keep"
    " only these columns, for example with `cut -f1,2,4`"
)


def read_predictions(path: str | Path, asked: Collection[str] | None = None) -> Predictions:
    """Read a prediction file, and return the scored pairs that it lists.

    With five columns, the score is 0.5 + (p_positive - p_negative) / 2, which equals p_positive if
    p_negative and p_positive add up to 1. The score is at least 0.5 exactly if the benchmark adds
    an edge, that is, if p_positive > p_negative. The label is the true label and is not read.

    Args:
        path: The prediction file.
        asked: The requested proteins; None for all. Lines that name any other protein are counted
            and dropped.

    Returns:
        The predictions; an empty file gives empty predictions with a note.

    Raises:
        UserError: The file cannot be read, a line has a wrong format, or no line names two of the
            proteins in `asked`.
    """
    path = Path(path)
    wanted = None if asked is None else frozenset(asked)

    def is_header(fields: list[str]) -> bool:
        listed = wanted and any(shorten_uniprot(name) in wanted for name in fields[:2])
        return names_columns(fields) and not listed

    rows = read_pair_file(path, PairFormat(_EXPECTED, _number_columns, is_header), wanted)
    if rows is None:
        none = np.empty((0, 2), np.int32), np.empty(0)
        return Predictions.gather([], *none, [f"{path} is empty, so nothing is predicted"])
    if wanted is not None and rows.foreign is not None and not len(rows.pairs):
        raise UserError(_explain_foreign(path, rows.foreign, wanted))
    return Predictions.gather(rows.ids, rows.pairs, _scores(rows.numbers), _notes(rows))


def _number_columns(first: list[str]) -> tuple[int, ...] | None:
    """Return the columns of the score, or None if the number of columns is not supported.

    Four columns are ambiguous, unless the header is `SCORED_PAIRS`.
    """
    if tuple(first) == SCORED_PAIRS:
        return (2,)
    return {3: (2,), 5: (3, 4)}.get(len(first))


def _scores(numbers: FloatArray) -> FloatArray:
    """Compute the scores of N lines, (N,) float64, from one or two numbers a line, (1 or 2, N)."""
    if len(numbers) == 1:
        score: FloatArray = numbers[0]
        return score
    negative, positive = numbers
    # Infinite scores are allowed; the difference of equal infinite scores counts as a tie, not NaN.
    with np.errstate(invalid="ignore"):
        margin = CALL + np.where(positive == negative, 0.0, positive - negative) / 2
    called = positive > negative
    margin = np.where(called, np.maximum(margin, CALL), np.minimum(margin, BELOW_CALL))
    return np.where(np.isnan(numbers).any(axis=0), np.nan, margin)


def _notes(rows: PairRows) -> list[str]:
    notes = []
    if rows.header:
        notes.append(f"line {rows.header} has no numbers and is treated as a header")
    if rows.skipped:
        notes.append(
            f"{count_of(rows.skipped, 'line is', 'lines are')} ignored, because no task uses the"
            f" protein (such as '{excerpt(rows.foreign or '')}')"
        )
    if len(rows.numbers) == 2 and rows.numbers.size:
        with np.errstate(invalid="ignore"):
            off = np.abs(rows.numbers.sum(axis=0) - 1)
        if not (off < 0.01).any():
            notes.append(
                "columns 4 and 5 are read as p_negative and p_positive, but do not add up to 1 in"
                " any line; if these columns mean something else, keep only the columns of the two"
                " proteins and the score"
            )
    return notes


def _explain_foreign(path: Path, foreign: str, asked: Collection[str]) -> str:
    """Compose an error message for a file whose protein ids are not those of the benchmark."""
    marked = any(mark in foreign for mark in ",;\"'")
    return (
        f"{path} has no line that names two of the {len(asked)} proteins that the tasks use: ids in"
        f" the file look like '{excerpt(foreign)}', but ids in the benchmark look like"
        f" '{excerpt(min(asked))}'; "
        + (
            "separate the columns by tabs, spaces or commas only, without quotes"
            if marked
            else "convert the ids in the file, or choose the species to which these ids belong"
        )
    )


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]],
) -> None:
    """Write a prediction file with lines `protein_a protein_b score`.

    Args:
        path: The file, which is compressed with gzip if its name ends in .gz.
        ids: Protein ids.
        pairs: (P, 2) indices into `ids`.
        scores: (P,) float32 or float64.

    Raises:
        UserError: The file cannot be written.
    """
    write_pair_file(Path(path), ids, pairs, {"score": scores})
