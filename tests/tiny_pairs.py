"""Labelled pairs with random embeddings held in memory: batches and losses without a benchmark."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from common.data.batches import PairBatch, PairData
from common.data.embeddings.shards import Embedding
from common.data.embeddings.store import EmbeddingStore
from common.data.tables.pairs import PairTable
from common.inference.validation_pairs import ValidationPairs


class MemoryStore(EmbeddingStore):
    """Embeddings by protein id, without files."""

    def __init__(self, embeddings: Mapping[str, Embedding]) -> None:
        self.embeddings = embeddings
        self.dim = next(iter(embeddings.values())).shape[1]

    def __getitem__(self, protein: str) -> Embedding:
        return self.embeddings[protein]

    def length(self, protein: str) -> int:
        return len(self.embeddings[protein])


def make_pairs(
    count: int, proteins: int = 30, positive: float = 0.5, dim: int = 4, seed: int = 0
) -> PairData:
    """`count` distinct pairs, of which the first three are self-pairs."""
    rng = np.random.default_rng(seed)
    names = [f"P{i:03d}" for i in range(proteins)]
    embeddings = {
        name: rng.normal(size=(int(rng.integers(1, 40)), dim)).astype(np.float16) for name in names
    }
    every = np.array([(a, b) for a in range(proteins) for b in range(a + 1, proteins)])
    rows = rng.permutation(len(every))[: count - 3]
    pairs = np.concatenate([np.repeat(np.arange(3), 2).reshape(3, 2), every[rows]])
    labels = (rng.random(count) < positive).astype(np.int8)
    return PairData(
        PairTable(tuple(names), pairs.astype(np.int64), labels), MemoryStore(embeddings)
    )


def alone(data: PairData) -> ValidationPairs:
    """These pairs as the only ones that validate."""
    return ValidationPairs(data, (len(data),))


def whole_batch(data: PairData, rows: list[int]) -> PairBatch:
    """The batch of these rows on the only process."""
    return data.collate(np.array(rows), len(rows))


def one_process() -> Accelerator:
    """A fresh accelerator on this process alone, whatever a test before has set up."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=not torch.cuda.is_available())
