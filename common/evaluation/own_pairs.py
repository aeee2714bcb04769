"""The user's own pairs: read from a file, checked against a FASTA, written with their calls."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.data.tables.fasta import read_text
from common.data.tables.ids import number_ids, shorten_uniprot
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt
from common.evaluation.prediction_file import SCORED_PAIRS
from common.files import write_atomically
from common.inference.thresholds import call_pairs
from common.run import LOGGER, format_event


def read_own_pairs(path: Path, known: Container[str], fasta: Path) -> PairTable:
    """Read lines `protein_a protein_b` (tab or space; further columns are left alone).

    Args:
        path: The file; gzip by suffix. A first line that says `protein_a protein_b` is a header.
            A UniProt name (`sp|P12345|NAME`) means its accession, as in the FASTA.
        known: The proteins that have a sequence.
        fasta: Where those come from, for the message.

    Raises:
        UserError: A line has fewer than two columns, names an unknown protein, or there is none.
    """
    names: list[tuple[str, str]] = []
    first = True
    for number, line in enumerate(io.StringIO(read_text(path), newline=None), 1):
        fields = line.split()
        if not fields:
            continue
        header, first = first and tuple(fields[:2]) == SCORED_PAIRS[:2], False
        if header:
            continue
        where = f"{path}, line {number}"
        if len(fields) < 2 or "," in f"{fields[0][-1]}{fields[1][0]}":
            raise UserError(
                f"{where}: expected two protein ids, apart by a tab or spaces and no comma, found"
                f" '{excerpt(line.strip())}'"
            )
        a, b = (shorten_uniprot(name) for name in fields[:2])
        for protein in (a, b):
            if protein not in known:
                raise UserError(
                    f"{where}: {fasta} has no sequence of '{excerpt(protein)}'; add it, or correct"
                    " or remove the line (a header would say 'protein_a protein_b')"
                )
        names.append((a, b))
    if not names:
        raise UserError(f"{path} holds no pairs; expected lines 'protein_a protein_b'")
    proteins, places = number_ids([name for pair in names for name in pair])
    return PairTable(proteins, places.reshape(-1, 2), np.zeros(len(names), dtype=np.int8))


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse before hours of scoring what could not, or should not, be written after them.

    Raises:
        UserError: The output's folder does not exist or is closed, or the output is a folder, a
            device, or one of the inputs.
    """
    reason = _why_no_output(path, inputs)
    if reason is not None:
        raise UserError(f"--output {path} {reason}; name another file, in an existing folder")


def _why_no_output(path: Path, inputs: Sequence[Path]) -> str | None:
    try:
        folder = path.resolve().parent  # A link is written through.
    except (OSError, RuntimeError):  # which of them depends on the version of Python
        return "is a link in a circle"
    if not folder.is_dir():
        return "lies in a folder that does not exist"
    if not os.access(folder, os.W_OK):
        return "lies in a folder where you may not write"
    if path.exists() and not path.is_file():
        return "is a directory" if path.is_dir() else "is no file"
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        return "is one of the inputs"
    return None


def write_own_pairs(
    path: Path, table: PairTable, scores: NDArray[np.float64], threshold: float
) -> None:
    """Write tab-separated `protein_a protein_b probability call`, in the order of the input.

    Gzip by suffix; where the path is a link, what it leads to is written.
    """
    calls = call_pairs(scores, threshold).astype(int).tolist()
    lines = ["\t".join(SCORED_PAIRS)]
    for (a, b), score, call in zip(table.pairs.tolist(), scores.tolist(), calls, strict=True):
        lines.append(f"{table.proteins[a]}\t{table.proteins[b]}\t{score!r}\t{call}")
    content = ("\n".join(lines) + "\n").encode()
    target = path.resolve()
    if target.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    write_atomically(target, content)
    LOGGER.info(
        format_event(
            "pairs_written", path=path, pairs=len(calls), threshold=threshold, called=sum(calls)
        )
    )
