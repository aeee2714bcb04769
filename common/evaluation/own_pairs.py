"""Read the user's own proteins, and determine the pairs to score: listed pairs or a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.data.tables.fasta import read_records
from common.data.tables.ids import places_of, shorten_uniprot
from common.data.tables.pair_file import PairFormat, read_pair_file
from common.data.tables.text import TextFile
from common.errors import UserError, excerpt
from common.evaluation.export.base import COLUMNS
from common.inference.pair_grid import PairGrid
from common.run import LOGGER, format_event

LABELS, FEW = ("0", "1"), 10


@dataclass(frozen=True)
class OwnSequences:
    """The user's protein sequences, from one or two FASTA files.

    Attributes:
        files: The FASTA files.
        parts: The sequences of each file, by protein id.
        descriptions: The text after the id in each FASTA header, by protein id.
    """

    files: tuple[Path, ...]
    parts: tuple[Mapping[str, str], ...]
    descriptions: dict[str, str]

    @classmethod
    def read(cls, files: Sequence[Path]) -> OwnSequences:
        """Read the sequences and descriptions of one or two FASTA files.

        Raises:
            UserError: A file is not FASTA, or a protein has different sequences in the two files.
        """
        records = tuple(map(read_records, files))
        parts = tuple({name: each.sequence for name, each in part.items()} for part in records)
        for name in parts[0].keys() & parts[-1].keys():
            if parts[0][name] != parts[-1][name]:
                raise UserError(
                    f"the protein {excerpt(name)} has different sequences in {files[0]} and"
                    f" {files[-1]}; rename it in one file, or use the same sequence in both files"
                )
        descriptions = {name: each.description for part in records for name, each in part.items()}
        return cls(tuple(files), parts, descriptions)

    @property
    def all(self) -> dict[str, str]:
        """The sequences of all files, by protein id."""
        return {name: text for part in self.parts for name, text in part.items()}

    def __str__(self) -> str:
        return " and ".join(map(str, self.files))


@dataclass(frozen=True, eq=False)
class OwnPairs:
    """The pairs that a user's file lists, with labels if the file has any.

    Attributes:
        ids: The protein ids in the file.
        pairs: (N, 2) indices into `ids`, in the order of the file.
        labels: (N,) 0 or 1; None if the file has no labels.
    """

    ids: Sequence[str]
    pairs: NDArray[np.int64]
    labels: NDArray[np.int8] | None


def read_own_pairs(path: Path, sequences: OwnSequences, skip_unknown: bool) -> OwnPairs:
    """Read pairs from lines `protein_a protein_b [label]`, ignoring further columns.

    Args:
        path: The file. A first line that begins with `protein_a protein_b` is a header.
        sequences: The sequences of all known proteins.
        skip_unknown: Whether to leave out pairs of unknown proteins, with a warning that counts
            these pairs, instead of raising an error.

    Raises:
        UserError: A line has fewer than two columns, the file has no pairs, all pairs have unknown
            proteins, or some pairs do and `skip_unknown` is False.
    """
    labelled = _has_labels(path)
    form = PairFormat(
        "'protein_a protein_b'",
        numbers=lambda first: ((2,) if labelled else ()) if len(first) >= 2 else None,
        is_header=lambda first: tuple(first[:2]) == COLUMNS[:2],
        labels=labelled,
        ragged=not labelled,
    )
    rows = read_pair_file(path, form)
    if rows is None or not len(rows.pairs):
        raise UserError(f"{path} contains no pairs; give lines of the form 'protein_a protein_b'")
    labels = rows.numbers[0].astype(np.int8) if labelled else None
    found = OwnPairs(rows.ids, rows.pairs.astype(np.int64), labels)
    return _leave_out_unknown(found, path, sequences, skip_unknown)


def _has_labels(path: Path) -> bool:
    """Return whether the first pair's line has exactly three columns, with 0 or 1 in the third."""
    for _, line in TextFile(path).lines():
        fields = line.replace(",", " ").split()
        if fields and fields[0][0] != "#" and tuple(fields[:2]) != COLUMNS[:2]:
            return len(fields) == 3 and fields[2] in LABELS
    return False


def _leave_out_unknown(own: OwnPairs, path: Path, sequences: OwnSequences, skip: bool) -> OwnPairs:
    known = sequences.all
    unknown = [name for name in own.ids if name not in known]
    if not unknown:
        return own
    lost = np.any(np.isin(own.pairs, places_of(unknown, own.ids)), axis=1)
    if skip and not lost.all():
        fields = {"proteins": len(unknown), "pairs": lost.sum(), "such_as": unknown[:FEW]}
        LOGGER.warning(format_event("pairs_left_out", of=path, **fields))
        labels = None if own.labels is None else own.labels[~lost]
        return replace(own, pairs=own.pairs[~lost], labels=labels)
    where = f"{path}, line {_line_of(unknown[0], path)}: "
    affected = f"which affects {lost.sum()} of {len(own.pairs)} pairs"
    remedy = "leave these pairs out with --skip-unknown"
    if lost.all():
        remedy = "give the FASTA file of these proteins with --fasta"
    raise UserError(where + _no_sequence(unknown, sequences, affected, remedy))


def _no_sequence(unknown: Sequence[str], sequences: OwnSequences, affected: str, or_: str) -> str:
    """Compose a message that names the first few unknown proteins and suggests remedies."""
    first, *others = map(excerpt, unknown)
    more = ", …" if len(unknown) > FEW else ""
    also = f" and of {len(others)} more ({', '.join(others[: FEW - 1])}{more})" if others else ""
    return (
        f"{sequences} has no sequence of '{first}'{also}, {affected}; add the sequences,"
        f" correct the ids, or {or_} (a header must begin with 'protein_a protein_b')"
    )


def _line_of(name: str, path: Path) -> int:
    """Return the number of the first line that names this protein, or 0 if no line does."""
    for number, line in TextFile(path).lines():
        fields = line.replace(",", " ").split()[:2]
        if name in fields or name in map(shorten_uniprot, fields):
            return number
    return 0


def read_queries(given: str, sequences: OwnSequences, skip_unknown: bool) -> list[str]:
    """Read the protein ids of `--query`: a comma-separated list, or a file with one id per line.

    Raises:
        UserError: No id is given, all ids are unknown, or some are and `skip_unknown` is False.
    """
    if Path(given).is_file():
        lines = (line.split() for _, line in TextFile(given).lines())
        words = [fields[0] for fields in lines if fields and fields[0][0] != "#"]
    else:
        words = [word.strip() for word in given.split(",") if word.strip()]
    names = list(dict.fromkeys(map(shorten_uniprot, words)))
    known = sequences.all
    unknown = [name for name in names if name not in known]
    if unknown and (not skip_unknown or len(unknown) == len(names)):
        affected = f"which affects {len(unknown)} of {len(names)} query proteins"
        remedy = "leave unknown proteins out with --skip-unknown, or name an existing file of ids"
        text = _no_sequence(unknown, sequences, affected, remedy).removesuffix(
            " (a header must begin with 'protein_a protein_b')"
        )
        raise UserError(f"--query {excerpt(given)}: {text}")
    if unknown:
        fields = {"proteins": len(unknown), "such_as": unknown[:FEW]}
        LOGGER.warning(format_event("queries_left_out", **fields))
    if not names:
        raise UserError(
            f"--query {excerpt(given)} names no protein; give ids separated by commas, or a file"
            " with one id per line"
        )
    return [name for name in names if name in known]


def make_grid(
    sequences: OwnSequences, ids: Sequence[str], queries: Sequence[str] | None, with_self: bool
) -> PairGrid:
    """Create the grid of pairs to score, depending on query proteins and on the number of files.

    Args:
        sequences: The sequences; with two files, each protein of the first file is paired with each
            protein of the second file.
        ids: The ids of all proteins, sorted.
        queries: The ids of the query proteins, each of which is paired with all proteins; None to
            pair all proteins.
        with_self: Whether to pair each protein with itself, too.
    """
    columns = places_of(sorted(sequences.parts[-1]), ids)
    rows = places_of(sorted(sequences.parts[0]) if queries is None else queries, ids)
    return PairGrid(len(ids), rows, columns, with_self)
