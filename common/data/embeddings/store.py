"""Reads the embedding cache: residue states of proteins as views of memory-mapped files.

No data are copied or read in advance: creating a view takes less than a microsecond, and the
operating system keeps one copy of used pages in memory for all processes of a machine. The module
imports neither torch nor transformers, so that data loading workers start quickly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.data.embeddings.shards import Embedding, Shard

# The number of a record batch (over all shards), and the first value and the end within the batch.
Place = tuple[int, int, int]
Sums = NDArray[np.float64]


class Store(Protocol):
    """The embeddings that a model reads: for each protein, all residue states or their mean.

    Attributes:
        dim: The width of a row.
        language_model: The hash of the files of the language model that computed the states.
    """

    dim: int
    language_model: str

    def __getitem__(self, protein: str) -> Embedding:
        """Return the embedding rows of a protein, (rows, dim)."""

    def gather(self, proteins: Sequence[str]) -> Embedding:
        """Return the concatenated rows of several proteins as a new array (R, dim)."""

    def length(self, protein: str) -> int:
        """Return the number of embedding rows of a protein."""

    def residues(self, protein: str) -> int:
        """Return the number of residues that a protein's rows represent."""

    def sums(self, protein: str) -> Sums:
        """Return the sums of a protein's residue states and of the squared states, (2, dim)."""


@dataclass(frozen=True)
class StoredShard:
    """The content of one shard: all residue states, and the row number of each opened protein."""

    path: Path
    states: list[Embedding]
    rows: dict[str, int]


class EmbeddingStore:
    """A read-only store of the residue states of a set of proteins, in memory-mapped files.

    The store may be used after a fork; unpickling opens the files again.

    Args:
        shards: The complete shards to read from, at least one.
        dtype: The dtype of the stored states.
        hashes: The sequence hash of every protein, by which its states are found.
        language_model: The hash of the files of the language model that computed the states.

    Raises:
        KeyError: No shard contains a hash.
        OSError: A shard is missing.
    """

    dim: int
    language_model: str = ""

    def __init__(
        self,
        shards: Sequence[Shard],
        dtype: str,
        hashes: Mapping[str, str],
        language_model: str = "",
    ) -> None:
        self.dim = shards[0].dim
        self.language_model = language_model
        self._dtype = dtype
        self._paths = [shard.path.absolute() for shard in shards]
        batches = _map_batches(self._paths)
        self._values = [_flat_values(batch, dtype) for batch in batches]
        found = dict(_row_places(batches, dtype))
        self._places = {protein: found[key] for protein, key in hashes.items()}
        self._hashes = dict(hashes)

    def __getitem__(self, protein: str) -> Embedding:
        """Return a read-only view (length, dim) of a protein's states, in the store's dtype."""
        part, first, end = self._places[protein]
        return self._values[part][first:end].reshape(-1, self.dim)

    def gather(self, proteins: Sequence[str]) -> Embedding:
        """Return the concatenated states of several proteins as a new array (R, dim)."""
        return np.concatenate([self[protein] for protein in proteins])

    def length(self, protein: str) -> int:
        """Return the number of stored residues of a protein, whose sequence may have been cut."""
        _, first, end = self._places[protein]
        return (end - first) // self.dim

    def residues(self, protein: str) -> int:
        """Return the number of stored residues of a protein, which is the same as `length`."""
        return self.length(protein)

    def sums(self, protein: str) -> Sums:
        """Return the sums of a protein's residue states and of the squared states, (2, dim)."""
        return add_up(self[protein])

    def shards(self) -> Iterator[StoredShard]:
        """Yield the residue states and rows of each shard."""
        for path in self._paths:
            batches = _map_batches([path])
            values = [_flat_values(batch, self._dtype) for batch in batches]
            places = dict(_row_places(batches, self._dtype))
            row_of = {key: row for row, key in enumerate(places)}
            states = [values[i][a:b].reshape(-1, self.dim) for i, a, b in places.values()]
            rows = {name: row_of[key] for name, key in self._hashes.items() if key in row_of}
            yield StoredShard(path, states, rows)

    def __contains__(self, protein: object) -> bool:
        return protein in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_values"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # The name of a shard is a hash of its content, so the stored places are still valid.
        self._values = [_flat_values(batch, self._dtype) for batch in _map_batches(self._paths)]


def add_up(states: Embedding) -> Sums:
    """Return the sums (2, D) of residue states (L, D) and of the squared states, in float64."""
    exact = states.astype(np.float64)
    return np.stack([exact.sum(0), (exact**2).sum(0)])


def stored_hashes(shards: Sequence[Shard]) -> set[str]:
    """Read the sequence hashes of all rows in these shards."""
    batches = _map_batches([shard.path for shard in shards])
    return {key for batch in batches for key in batch.column("sequence_hash").to_pylist()}


def _map_batches(paths: Sequence[Path]) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    for path in paths:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
            batches += list(reader)
    return batches


def _flat_values(batch: pa.RecordBatch, dtype: str) -> Embedding:
    """Return all values of a record batch as one array, which keeps the memory map open."""
    _, _, values = batch.column("embedding").buffers()
    return np.frombuffer(values, np.dtype(dtype))


def _row_places(batches: Sequence[pa.RecordBatch], dtype: str) -> Iterator[tuple[str, Place]]:
    """Yield the sequence hash of every row, and the place where its values are stored."""
    for number, batch in enumerate(batches):
        column = batch.column("embedding")
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :]
        bounds = (offsets // np.dtype(dtype).itemsize).tolist()
        for row, key in enumerate(batch.column("sequence_hash").to_pylist()):
            yield key, (number, bounds[row], bounds[row + 1])
