"""Labelled protein pairs: their table, how a file of them is read, and who lacks a sequence.

A pair file holds lines of protein, protein, label. What is parsed is kept as an Arrow data set
under the file's content hash, so it is parsed once.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets
import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from common.data.tables.fasta import cached_dataset, read_text
from common.data.tables.ids import number_ids
from common.errors import UserError, excerpt

_PAIR_COLUMNS = ("protein_a", "protein_b", "label")


@dataclass(frozen=True, eq=False, repr=False)
class PairTable:
    """Labelled pairs as row numbers into their proteins.

    Attributes:
        proteins: The ids that occur in the pairs, sorted.
        pairs: (N, 2) int64, row numbers into `proteins`, in the order of the file.
        labels: (N,) int8, 1 where the pair interacts, else 0.
    """

    proteins: tuple[str, ...]
    pairs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"PairTable({len(self)} pairs of {len(self.proteins)} proteins)"

    @classmethod
    def from_dataset(cls, dataset: datasets.Dataset) -> PairTable:
        """Number the proteins of a data set with the columns protein_a, protein_b, label."""
        table = dataset.with_format("arrow")[:]
        sides = [table.column(name).chunks for name in ("protein_a", "protein_b")]
        ids = pa.chunked_array([*sides[0], *sides[1]], pa.string()).combine_chunks()
        encoded = ids.dictionary_encode()
        proteins, places = number_ids(encoded.dictionary.to_pylist())
        rows = places[encoded.indices.to_numpy()].reshape(2, -1)
        return cls(
            proteins=proteins,
            pairs=np.ascontiguousarray(rows.T),
            labels=table.column("label").to_numpy().astype(np.int8),
        )

    @property
    def is_self(self) -> npt.NDArray[np.bool_]:
        """(N,) True where both sides are the same protein (a homodimer)."""
        return np.equal(self.pairs[:, 0], self.pairs[:, 1])

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> PairTable:
        """The pairs under a mask or at row numbers, with the proteins that they still name."""
        kept = self.pairs[rows]
        used, numbers = np.unique(kept, return_inverse=True)
        return PairTable(
            proteins=tuple(self.proteins[row] for row in used),
            pairs=numbers.reshape(-1, 2).astype(np.int64),
            labels=self.labels[rows],
        )


@dataclass(frozen=True)
class MissingReport:
    """What was dropped for want of a sequence.

    Attributes:
        pairs: How many pairs.
        proteins: How many proteins have no sequence.
        names: The first few of those.
    """

    pairs: int
    proteins: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs of {self.proteins} proteins without a sequence"
            f" ({', '.join(self.names)})"
        )


def read_pairs(path: str | Path, cache_dir: str | Path) -> PairTable:
    """Read a pair file: lines of protein, protein, label, apart by tabs or spaces.

    Args:
        path: The file; `.gz` is unpacked.
        cache_dir: Where the parsed file is kept (columns protein_a, protein_b, label).

    Raises:
        UserError: A line that does not hold two proteins and a label 0 or 1, by its number; an
            empty file; a file that cannot be read.
    """
    path = Path(path)
    text = read_text(path)
    dataset = cached_dataset("pairs", text, Path(cache_dir), lambda: _parse_pairs(text, path))
    return PairTable.from_dataset(dataset)


def _parse_pairs(text: str, path: Path) -> pa.Table:
    table = _parse_regular(text)
    return _parse_lines(text, path) if table is None else table


def _parse_regular(text: str) -> pa.Table | None:
    """The rows of a file in the benchmark's own form; None where anything else is met."""
    try:
        table = csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=csv.ReadOptions(column_names=_PAIR_COLUMNS),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(_PAIR_COLUMNS, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    *ids, labels = table.columns
    regular = [pc.match_substring_regex(column, "^[!-~]+$") for column in ids]
    regular.append(pc.is_in(labels, pa.array(["0", "1"])))
    if not all(pc.all(column).as_py() for column in regular):
        return None
    return table.set_column(2, "label", pc.equal(labels, "1").cast(pa.int8()))


def _parse_lines(text: str, path: Path) -> pa.Table:
    """The rows line by line: slower, with other separators, and with the number of a bad line."""
    rows = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3:
            raise UserError(
                f"{path}, line {number}: {len(fields)} columns instead of three (protein, protein,"
                " label); mend or remove the line"
            )
        if fields[2] not in ("0", "1"):
            raise UserError(
                f"{path}, line {number}: the label '{excerpt(fields[2])}' is neither 0 nor 1; mend"
                " the line"
            )
        if not "".join(fields).isprintable():
            raise UserError(
                f"{path}, line {number}: '{excerpt(' '.join(fields))}' has characters that cannot"
                " be seen; remove them"
            )
        rows.append((fields[0], fields[1], int(fields[2])))
    if not rows:
        raise UserError(f"{path} holds no pairs; expected lines of protein, protein, label")
    schema = pa.schema(
        [("protein_a", pa.string()), ("protein_b", pa.string()), ("label", pa.int8())]
    )
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, schema=schema)


def all_pairs(graph: nx.Graph) -> PairTable:
    """Every unordered pair of a graph's nodes, self-pairs included, labelled by its edges.

    Pairs come in the order of the sorted ids: (0, 0), (0, 1), …, (n - 1, n - 1).
    """
    proteins = tuple(sorted(graph))
    rows, columns = np.triu_indices(len(proteins))
    adjacency = nx.to_numpy_array(graph, nodelist=proteins, dtype=np.int8, weight=None)
    return PairTable(proteins, np.stack([rows, columns], axis=1), adjacency[rows, columns])


def check_sequences(
    table: PairTable,
    sequences: Mapping[str, str],
    policy: Literal["refuse", "drop"],
    origin: str,
) -> tuple[PairTable, MissingReport | None]:
    """See that every protein of the pairs has a sequence.

    Args:
        table: The pairs.
        sequences: The sequences by protein.
        policy: `data_config.benchmark.missing_sequences`.
        origin: What the pairs are called in a message.

    Returns:
        The pairs that have their sequences, and what was dropped, if anything was.

    Raises:
        UserError: Sequences are missing and the policy refuses that, or no pair would be left.
    """
    missing = [row for row, protein in enumerate(table.proteins) if protein not in sequences]
    if not missing:
        return table, None
    dropped = np.any(np.isin(table.pairs, missing), axis=1)
    names = tuple(table.proteins[row] for row in missing[:3])
    report = MissingReport(int(dropped.sum()), len(missing), names)
    if policy == "refuse" or dropped.all():
        raise UserError(_explain_missing(report, table, origin))
    return table.select(~dropped), report


def _explain_missing(report: MissingReport, table: PairTable, origin: str) -> str:
    names = ", ".join(map(excerpt, report.names))
    names += ", …" if report.proteins > len(report.names) else ""
    remedy = "add them to the FASTA of the same species"
    if report.pairs < len(table):
        remedy += ", or set data_config.benchmark.missing_sequences: drop"
    return (
        f"{origin}: {report.proteins} of {len(table.proteins)} proteins ({names}) have no sequence,"
        f" which concerns {report.pairs} of {len(table)} pairs; {remedy}"
    )


def overlap(a: PairTable, b: PairTable) -> set[str]:
    """The proteins that occur in both tables: none between the train and test pairs of PRING."""
    return set(a.proteins) & set(b.proteins)
