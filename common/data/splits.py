"""A stage's data, opened: the benchmark's splits, their sequences, their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from common.config import Config
from common.data.batches import PairData
from common.data.benchmarks.base import Split
from common.data.benchmarks.registry import prepare_benchmark
from common.data.embeddings.build import EmbeddingStore, prepare_store
from common.data.embeddings.means import open_means
from common.data.embeddings.store import Store
from common.data.tables.pairs import PairTable, check_sequences
from common.errors import UserError
from common.registry import MODELS


@dataclass(frozen=True)
class Splits:
    """The splits that a stage works on.

    Attributes:
        parts: Pairs with embeddings, by split.
        notes: Notes on them for the log.
        known: Pairs of the other splits whose positives are never drawn as negatives of training;
            none where the negatives are those of the file.
    """

    parts: dict[str, PairData]
    notes: dict[str, object]
    known: tuple[PairTable, ...] = ()

    @property
    def store(self) -> Store:
        """The embeddings of all their proteins."""
        return next(iter(self.parts.values())).store


def open_splits(config: Config, names: Sequence[Split], accelerator: Accelerator) -> Splits:
    """Read the splits, embed proteins that the cache lacks, and join both.

    Raises:
        UserError: The data are missing or wrong, or do not fit the model.
    """
    others: tuple[Split, ...] = ()
    if "train" in names and config.data.dataloader.sampling.negatives.source == "resampled":
        others = ("val", "test")
    needed = tuple(dict.fromkeys([*names, *others]))
    benchmark = prepare_benchmark(config.data, config.run.seed, accelerator, splits=needed)
    read = {name: benchmark.pairs(name) for name in needed}
    tables = {str(name): read[name] for name in names}
    parts, notes = embed_tables(config, tables, benchmark.sequences(), accelerator)
    named = {"species": benchmark.species, "strategy": benchmark.strategy, **notes}
    return Splits(parts, named, tuple(read[name] for name in others))


def embed_tables(
    config: Config,
    tables: Mapping[str, PairTable],
    sequences: Mapping[str, str],
    accelerator: Accelerator,
) -> tuple[dict[str, PairData], dict[str, object]]:
    """Join tables of pairs with the embeddings of their proteins, computing what is new.

    Returns:
        The data by the tables' names, and notes on them for the log.

    Raises:
        UserError: Proteins have no sequence (unless such pairs are dropped by configuration), or
            the embeddings do not fit the model.
    """
    kept: dict[str, PairTable] = {}
    notes: dict[str, object] = {}
    policy = config.data.benchmark.missing_sequences
    for name, table in tables.items():
        kept[name], missing = check_sequences(table, sequences, policy, f"{name} pairs")
        positives, proteins = int(kept[name].labels.sum()), len(kept[name].proteins)
        notes[name] = f"{len(kept[name])} pairs ({positives} positive, {proteins} proteins)"
        if missing is not None:
            notes[f"{name}_dropped"] = missing
    needed = sorted({protein for table in kept.values() for protein in table.proteins})
    store = prepare_store(
        {protein: sequences[protein] for protein in needed},
        config.data.embeddings,
        config.data.max_sequence_length,
        accelerator,
    )
    if config.model.input_dim not in ("auto", store.dim):
        raise UserError(
            f"model_config.input_dim is {config.model.input_dim}, but the embeddings of"
            f" {config.data.embeddings.model_name} have {store.dim} dimensions; set it to auto"
        )
    read = read_for_model(store, config, accelerator)
    return {name: PairData(table, read) for name, table in kept.items()}, notes


def read_for_model(store: EmbeddingStore, config: Config, accelerator: Accelerator) -> Store:
    """The embeddings as the configured model reads them: all residues, or only their means."""
    if MODELS.get(config.model.model).reads_means:
        return open_means(store, accelerator)
    return store


def residue_statistics(data: PairData) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) over all residues of these pairs' proteins, in float32."""
    sums = np.zeros((2, data.store.dim))
    for protein in data.table.proteins:
        sums += data.store.sums(protein)
    count = int(data.residues.sum())
    mean, squares = sums[0] / count, sums[1]
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()
