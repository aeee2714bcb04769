"""Reads protein sequences from FASTA files.

Files may be compressed, in an old encoding, or have Windows line ends. Irregularities that cannot
change a sequence are accepted; an irregularity that could change a sequence is an error that names
the line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from common.data.tables.cache import cached_dataset
from common.data.tables.ids import shorten_uniprot
from common.data.tables.text import TextFile
from common.errors import UserError, excerpt
from common.run import LOGGER, format_event

# Only ASCII letters, because upper-casing another letter can turn it into two letters.
_STANDARD = re.compile(r"[ACDEFGHIKLMNPQRSTVWY]+")
_SEQUENCE_LINE = re.compile(r"[A-Za-z]*\*?")


@dataclass(frozen=True)
class FastaRecord:
    """One record of a FASTA file.

    Attributes:
        name: The id, the first word of the header; of a UniProt header (`sp|P12345|NAME`), the
            accession.
        description: The rest of the header.
        line: The number of the header's line.
        sequence: The upper-case sequence, without a final stop codon (`*`).
        stopped: Whether a stop codon was removed.
    """

    name: str
    description: str
    line: int
    sequence: str
    stopped: bool


def read_sequences(path: str | Path, cache_dir: str | Path) -> dict[str, str]:
    """Read a FASTA file like `read_fasta`, but parse it only once and keep it in `cache_dir`."""

    def parse(path: Path) -> pa.Table:
        sequences = read_fasta(path)
        return pa.table({"id": list(sequences), "sequence": list(sequences.values())})

    rows = cached_dataset("sequences", Path(path), Path(cache_dir), parse)[:]
    return dict(zip(rows["id"], rows["sequence"], strict=True))


def read_fasta(path: str | Path) -> dict[str, str]:
    """Read the sequences of a FASTA file like `read_records`, by protein id."""
    return {name: record.sequence for name, record in read_records(path).items()}


def read_records(path: str | Path) -> dict[str, FastaRecord]:
    """Read the records of a FASTA file.

    Args:
        path: The file; gzip is recognized by the content, not by the name.

    Returns:
        The record of every id, in file order; of several equal ones, the first. The log reports the
        number of removed stop codons and of nonstandard residues.

    Raises:
        UserError: The file is not FASTA, contains a character that is not a letter, an empty
            record, or an id with two different sequences; the message names the file and the lines.
    """
    path = Path(path)
    records: dict[str, FastaRecord] = {}
    for record in _records(TextFile(path).lines(), path):
        first = records.setdefault(record.name, record)
        if first.sequence != record.sequence:
            raise UserError(
                f"{path}, line {record.line}: {excerpt(record.name)} has a different sequence than"
                f" on line {first.line}; keep only one of the two entries"
            )
    if not records:
        raise UserError(
            f"{path} contains no sequences; provide a FASTA file ('>id', then the sequence)"
        )
    _log_oddities(path, records.values())
    return records


def _log_oddities(path: Path, records: Collection[FastaRecord]) -> None:
    """Log how many stop codons were removed, and which letters are not standard residues."""
    stops = sum(record.stopped for record in records)
    odd = [letters for record in records if (letters := _STANDARD.sub("", record.sequence))]
    counts = sorted(Counter("".join(odd)).items())
    letters = ", ".join(f"{letter} {count}" for letter, count in counts)
    if stops or odd:
        fields = {"file": path, "stops_removed": stops, "proteins_with_other_letters": len(odd)}
        LOGGER.info(format_event("sequences_read", **fields, letters=letters or "none"))


def _records(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[FastaRecord]:
    header, start, parts = ("", ""), 0, list[str]()
    for number, line in lines:
        line = line.strip()
        if line.startswith(">"):
            if start:
                yield _finish(header, start, parts, path)
            header, start, parts = _parse_header(line, number, path), number, []
        elif line and not start:
            raise UserError(
                f"{path}, line {number}: the file is not FASTA, because text precedes the first"
                " header; begin the file with '>id'"
            )
        elif line:
            _check_sequence_line(line, parts, header[0], f"{path}, line {number}")
            parts.append(line)
    if start:
        yield _finish(header, start, parts, path)


def _parse_header(line: str, number: int, path: Path) -> tuple[str, str]:
    """Return the id and the description."""
    words = line[1:].split(maxsplit=1)
    if not words:
        raise UserError(f"{path}, line {number}: the header has no id; write '>id'")
    if not words[0].isprintable():
        raise UserError(
            f"{path}, line {number}: the id '{excerpt(words[0])}' contains non-printable"
            " characters; remove them"
        )
    return shorten_uniprot(words[0]), "".join(words[1:])


def _check_sequence_line(line: str, before: list[str], name: str, where: str) -> None:
    if before and before[-1].endswith("*"):
        raise UserError(
            f"{where}: the sequence of {excerpt(name)} has residues after the stop codon '*'; fix"
            " the file"
        )
    valid = _SEQUENCE_LINE.match(line)
    end = valid.end() if valid else 0
    if end < len(line):
        wrong = "*" if line[end - 1 : end] == "*" else line[end]
        raise UserError(
            f"{where}: {wrong!r} in the sequence of {excerpt(name)} is not a residue letter (A-Z);"
            " fix the file"
        )


def _finish(header: tuple[str, str], start: int, parts: list[str], path: Path) -> FastaRecord:
    text = "".join(parts).upper()
    sequence = text.removesuffix("*")
    if not sequence:
        raise UserError(
            f"{path}, line {start}: {excerpt(header[0])} has no sequence; add the sequence or"
            " remove the entry"
        )
    return FastaRecord(*header, start, sequence, stopped=sequence != text)
