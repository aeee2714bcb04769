"""Reads and holds tables of labelled protein pairs, and drops pairs without sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import datasets
import networkx as nx
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.data.tables.cache import cached_dataset
from common.data.tables.ids import number_ids
from common.data.tables.pair_file import PairFormat, read_pair_file
from common.errors import UserError, excerpt

_PAIR_COLUMNS = ("protein_a", "protein_b", "label")
_LABELLED_PAIRS = PairFormat(
    "'protein protein label'",
    numbers=lambda first: (2,) if len(first) == 3 else None,
    labels=True,
)


@dataclass(frozen=True, eq=False, repr=False)
class PairTable:
    """A table of labelled protein pairs, with proteins as numbers.

    Attributes:
        proteins: The sorted ids of all proteins in the pairs.
        pairs: (N, 2) int64, indices into `proteins`, in the order of the file.
        labels: (N,) int8, 1 where the pair interacts, else 0.
    """

    proteins: tuple[str, ...]
    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"PairTable({len(self)} pairs of {len(self.proteins)} proteins)"

    @classmethod
    def number(cls, ids: Sequence[str], pairs: NDArray[Any], labels: NDArray[Any]) -> PairTable:
        """Create a table from pairs (N, 2) of indices into unsorted ids, and their labels (N,)."""
        proteins, places = number_ids(ids)
        return cls(proteins, np.ascontiguousarray(places[pairs]), labels.astype(np.int8))

    @classmethod
    def from_dataset(cls, dataset: datasets.Dataset) -> PairTable:
        """Create a table from a dataset with the columns protein_a, protein_b and label."""
        table = dataset.with_format("arrow")[:]
        sides = [table.column(name).chunks for name in _PAIR_COLUMNS[:2]]
        ids = pa.chunked_array([*sides[0], *sides[1]], pa.string()).combine_chunks()
        encoded = ids.dictionary_encode()
        pairs = encoded.indices.to_numpy().reshape(2, -1).T
        return cls.number(encoded.dictionary.to_pylist(), pairs, table.column("label").to_numpy())

    @property
    def is_self(self) -> NDArray[np.bool_]:
        """A mask (N,) of the pairs in which both proteins are the same (homodimers)."""
        return np.equal(self.pairs[:, 0], self.pairs[:, 1])

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> PairTable:
        """Return a table of the selected pairs (a mask or row numbers) and only their proteins."""
        kept = self.pairs[rows]
        used, numbers = np.unique(kept, return_inverse=True)
        return PairTable(
            proteins=tuple(self.proteins[row] for row in used),
            pairs=numbers.reshape(-1, 2).astype(np.int64),
            labels=self.labels[rows],
        )


@dataclass(frozen=True)
class MissingReport:
    """Counts of the pairs and proteins that were dropped because sequences are missing.

    Attributes:
        pairs: The number of dropped pairs.
        proteins: The number of proteins without a sequence.
        names: The first few proteins without a sequence.
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
    """Read a file of labelled pairs, whose lines contain two protein ids and a label.

    Args:
        path: The file, in a form that `read_pair_file` accepts.
        cache_dir: The directory in which the parsed file is kept.

    Raises:
        UserError: The file is empty or cannot be read, or a line does not consist of two proteins
            and a label 0 or 1; the message gives the line number.
    """
    return PairTable.from_dataset(
        cached_dataset("pairs", Path(path), Path(cache_dir), _parse_pairs)
    )


def _parse_pairs(path: Path) -> pa.Table:
    rows = read_pair_file(path, _LABELLED_PAIRS)
    if rows is None:
        raise UserError(
            f"{path} contains no pairs; provide lines with two protein ids and a label (0 or 1)"
        )
    ids = pa.array(rows.ids, pa.string())
    sides = [ids.take(pa.array(side)) for side in rows.pairs.T]
    return pa.table([*sides, pa.array(rows.numbers[0].astype(np.int8))], names=_PAIR_COLUMNS)


def all_pairs(graph: nx.Graph) -> PairTable:
    """Return all unordered pairs of a graph's nodes, self-pairs included, labelled by its edges.

    The pairs are ordered by the sorted ids: (0, 0), (0, 1), …, (n - 1, n - 1).
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
    """Check that all proteins have a sequence; drop pairs without sequences, or reject them.

    Args:
        table: The pairs.
        sequences: The sequences by protein.
        policy: `data_config.benchmark.missing_sequences`.
        origin: The name of the pairs in messages.

    Returns:
        The pairs that have sequences, and a report about the dropped pairs; None if no pair was
        dropped.

    Raises:
        UserError: Sequences are missing and the policy forbids that, or no pair would remain.
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
    remedy = "add the sequences to the FASTA file of the same species"
    if report.pairs < len(table):
        remedy += ", or set data_config.benchmark.missing_sequences: drop"
    return (
        f"{origin}: {report.proteins} of {len(table.proteins)} proteins ({names}) have no sequence,"
        f" which affects {report.pairs} of {len(table)} pairs; {remedy}"
    )


def overlap(a: PairTable, b: PairTable) -> set[str]:
    """Return the proteins that occur in both tables."""
    return set(a.proteins) & set(b.proteins)
