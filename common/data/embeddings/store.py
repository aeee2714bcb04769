"""Reads the embedding cache: residue states of proteins as views of memory-mapped files.

Nothing is copied and nothing is read ahead: a view takes less than a microsecond, and the operating
system keeps used pages in memory once for all processes of a machine. The module imports neither
torch nor transformers, so that data loading workers start quickly.
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

# Record batch (over all shards), first value and end within it.
Place = tuple[int, int, int]
Sums = NDArray[np.float64]


class Store(Protocol):
    """What a model reads of each protein: rows of states, all of them or their mean.

    Attributes:
        dim: The width of a row.
        language_model: The hash of the files of the model that made the states.
    """

    dim: int
    language_model: str

    def __getitem__(self, protein: str) -> Embedding:
        """Return the rows of a protein, (rows, dim)."""

    def gather(self, proteins: Sequence[str]) -> Embedding:
        """Return the rows of some proteins, laid end to end: a new array (R, dim)."""

    def length(self, protein: str) -> int:
        """Return how many rows a protein has."""

    def residues(self, protein: str) -> int:
        """Return how many residues the rows stand for."""

    def sums(self, protein: str) -> Sums:
        """Sums over the residues, of their states and of the squares: (2, dim)."""


@dataclass(frozen=True)
class StoredShard:
    """The states of all proteins of one shard, in order, and the rows of the opened proteins."""

    path: Path
    states: list[Embedding]
    rows: dict[str, int]


class EmbeddingStore:
    """Residue states of a set of proteins.

    It may be used after a fork; unpickling opens its files again.

    Args:
        shards: The complete shards to read from, at least one.
        dtype: The dtype of the stored states.
        hashes: For every protein, the hash under which its sequence is stored.
        language_model: The hash of the files of the model that made the states.

    Raises:
        KeyError: A hash is in no shard.
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
        """Return the states of a protein: a read-only (length, dim) view in the store's dtype."""
        part, first, end = self._places[protein]
        return self._values[part][first:end].reshape(-1, self.dim)

    def gather(self, proteins: Sequence[str]) -> Embedding:
        """Return the states of some proteins, laid end to end: a new array (R, dim)."""
        return np.concatenate([self[protein] for protein in proteins])

    def length(self, protein: str) -> int:
        """Return how many residues of a protein are stored; its sequence may have been cut."""
        _, first, end = self._places[protein]
        return (end - first) // self.dim

    def residues(self, protein: str) -> int:
        """Return how many residues of a protein are stored, like `length`."""
        return self.length(protein)

    def sums(self, protein: str) -> Sums:
        """Sums over the residues, of their states and of the squares: (2, dim)."""
        return add_up(self[protein])

    def shards(self) -> Iterator[StoredShard]:
        """Yield the content of each shard."""
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
        # A shard is named by its content, so the places found before are still valid.
        self._values = [_flat_values(batch, self._dtype) for batch in _map_batches(self._paths)]


def add_up(states: Embedding) -> Sums:
    """Sums (2, D) over residue states (L, D), of the states and of their squares, in float64."""
    exact = states.astype(np.float64)
    return np.stack([exact.sum(0), (exact**2).sum(0)])


def stored_hashes(shards: Sequence[Shard]) -> set[str]:
    """Return the sequence hashes of all rows in these shards."""
    batches = _map_batches([shard.path for shard in shards])
    return {key for batch in batches for key in batch.column("sequence_hash").to_pylist()}


def _map_batches(paths: Sequence[Path]) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    for path in paths:
        with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
            batches += list(reader)
    return batches


def _flat_values(batch: pa.RecordBatch, dtype: str) -> Embedding:
    """Return all values of a record batch in one array, which keeps the mapping alive."""
    _, _, values = batch.column("embedding").buffers()
    return np.frombuffer(values, np.dtype(dtype))


def _row_places(batches: Sequence[pa.RecordBatch], dtype: str) -> Iterator[tuple[str, Place]]:
    """Yield every row's sequence hash and index; hashes are converted in bulk."""
    for number, batch in enumerate(batches):
        column = batch.column("embedding")
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset :]
        bounds = (offsets // np.dtype(dtype).itemsize).tolist()
        for row, key in enumerate(batch.column("sequence_hash").to_pylist()):
            yield key, (number, bounds[row], bounds[row + 1])
