"""The user's own pairs: read from a file, checked against a FASTA, written with their scores."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.tables.pair_file import PairFormat, read_pair_file, write_pair_file
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt
from common.evaluation.prediction_file import SCORED_PAIRS
from common.inference.thresholds import call_pairs
from common.run import LOGGER, format_event


def read_own_pairs(path: Path, known: Collection[str], fasta: Path) -> PairTable:
    """Read lines `protein_a protein_b`; further columns are ignored.

    Args:
        path: The file. A first line that begins with `protein_a protein_b` is a header.
        known: The proteins that have a sequence.
        fasta: Where those come from, for the message.

    Raises:
        UserError: A line has fewer than two columns or names an unknown protein, or there are no
            pairs.
    """

    def unknown(name: str) -> str:
        return (
            f"{fasta} has no sequence of '{excerpt(name)}'; add it, or correct or remove the line"
            " (a header would be 'protein_a protein_b')"
        )

    form = PairFormat(
        "'protein_a protein_b'",
        numbers=lambda first: () if len(first) >= 2 else None,
        is_header=lambda first: tuple(first[:2]) == SCORED_PAIRS[:2],
        ragged=True,
        unknown=unknown,
    )
    rows = read_pair_file(path, form, known)
    if rows is None or not len(rows.pairs):
        raise UserError(f"{path} contains no pairs; expected lines 'protein_a protein_b'")
    return PairTable.number(rows.ids, rows.pairs, np.zeros(len(rows.pairs)))


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse, before hours of scoring, an output that cannot or should not be written.

    Raises:
        UserError: The output's folder does not exist or is not writable, or the output is a folder,
            a device, or one of the inputs.
    """
    reason = _why_no_output(path, inputs)
    if reason is not None:
        raise UserError(f"--output {path} {reason}; choose another file in an existing folder")


def _why_no_output(path: Path, inputs: Sequence[Path]) -> str | None:
    try:
        folder = path.resolve().parent  # A link is written through.
    except (OSError, RuntimeError):  # which of them depends on the version of Python
        return "is a link that leads back to itself"
    if not folder.is_dir():
        return "is in a folder that does not exist"
    if not os.access(folder, os.W_OK):
        return "is in a folder that is not writable"
    if path.exists() and not path.is_file():
        return "is a directory" if path.is_dir() else "is not a regular file"
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        return "is one of the inputs"
    return None


def write_own_pairs(
    path: Path, table: PairTable, scores: NDArray[np.float64], threshold: float
) -> None:
    """Write tab-separated `protein_a protein_b probability call`, in the order of the input.

    A path that is a link is followed.
    """
    calls = call_pairs(scores, threshold).astype(np.int8)
    columns: dict[str, NDArray[Any]] = {SCORED_PAIRS[2]: scores, SCORED_PAIRS[3]: calls}
    write_pair_file(path.resolve(), table.proteins, table.pairs, columns, header=True)
    LOGGER.info(
        format_event(
            "pairs_written", path=path, pairs=len(calls), threshold=threshold, called=calls.sum()
        )
    )
