"""Computes mean residue states, for models that read one mean per protein instead of all residues.

The sums over the residues of every protein are computed once and stored beside the shard, in a file
whose name contains a checksum of the sums and the shard's name. A file of sums that is damaged, or
belongs to another shard, is therefore recognized and computed again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import xxhash
from accelerate import Accelerator

from common.data.embeddings.shards import Embedding
from common.data.embeddings.store import EmbeddingStore, Store, StoredShard, Sums, add_up
from common.errors import UserError
from common.files import write_atomically
from common.long_work import LongWork
from common.run import OneProcess, on_main_process


class MeanStore:
    """A store of one float32 row per protein: the mean of the protein's residue states.

    Attributes:
        source: The store of the residue states.

    Args:
        residues: The store of the residue states.
        sums: (2, D) for every protein, the sums of the states and of the squared states.
    """

    def __init__(self, residues: Store, sums: Mapping[str, Sums]) -> None:
        self.dim, self.language_model, self.source = residues.dim, residues.language_model, residues
        self._residues = {protein: residues.length(protein) for protein in sums}
        self._places = {protein: place for place, protein in enumerate(sums)}
        self._sums = np.stack(list(sums.values()))
        counts = np.array(list(self._residues.values()))
        self._means = (self._sums[:, :1] / counts[:, None, None]).astype(np.float32)

    def __getitem__(self, protein: str) -> Embedding:
        """Return the mean residue state of a protein, (1, dim)."""
        mean: Embedding = self._means[self._places[protein]]
        return mean

    def gather(self, proteins: Sequence[str]) -> Embedding:
        """Return the mean residue states of several proteins, (proteins, dim)."""
        means: Embedding = self._means[[self._places[protein] for protein in proteins], 0]
        return means

    def length(self, protein: str) -> int:
        """Return the number of rows of a protein, which is always one."""
        return 1

    def residues(self, protein: str) -> int:
        """Return the number of residues whose states are averaged for a protein."""
        return self._residues[protein]

    def sums(self, protein: str) -> Sums:
        """Return the sums of a protein's residue states and of the squared states, (2, dim)."""
        sums: Sums = self._sums[self._places[protein]]
        return sums


def open_means(store: EmbeddingStore, accelerator: Accelerator | OneProcess) -> MeanStore:
    """Open the mean residue states of all proteins in a store, computing missing means.

    Every process calls this. If the cache cannot be written, each process computes the means
    separately.
    """
    shards = [shard for shard in store.shards() if shard.rows]
    on_main_process(accelerator, lambda: _fill([each for each in shards if _load(each) is None]))
    sums: dict[str, Sums] = {}
    for shard in shards:
        found = _load(shard)
        rows = _add_up(shard) if found is None else found
        sums |= {protein: rows[row] for protein, row in shard.rows.items()}
    return MeanStore(store, sums)


def _fill(shards: Sequence[StoredShard]) -> None:
    """Compute the sums of residue states in shards, and store them beside the shards."""
    with LongWork("averaging", sum(len(shard.states) for shard in shards), "proteins") as work:
        for shard in shards:
            file = io.BytesIO()
            np.save(file, _add_up(shard))
            with suppress(UserError):  # The cache is read-only, or the disk is full.
                write_atomically(_path_of(shard, _seal(shard, file.getvalue())), file.getvalue())
            work.advance(len(shard.states))


def _add_up(shard: StoredShard) -> Sums:
    """Compute the sums of residue states of each protein in a shard, (rows, 2, D)."""
    return np.stack([add_up(states) for states in shard.states])


def _load(shard: StoredShard) -> Sums | None:
    """Read the stored sums of a shard; return None if the sums are missing or damaged."""
    for path in shard.path.parent.glob(_path_of(shard, "*").name):
        with suppress(OSError, ValueError):
            content = path.read_bytes()
            if path == _path_of(shard, _seal(shard, content)):
                sums: Sums = np.load(io.BytesIO(content), allow_pickle=False)
                return sums
    return None


def _path_of(shard: StoredShard, seal: str) -> Path:
    return shard.path.with_suffix(f".{seal}.npy")


def _seal(shard: StoredShard, content: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(shard.path.stem.encode() + content)
