"""A stage's data, opened: the benchmark's splits, their sequences, their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from common.config import Config, DataConfig
from common.data.batches import PairData
from common.data.embeddings import EmbeddingStore, prepare_store
from common.data.pring import (
    Benchmark,
    PairTable,
    Split,
    check_sequences,
    open_benchmark,
)
from common.errors import UserError
from common.run import on_main_process


@dataclass(frozen=True)
class Splits:
    """The splits that a stage works on.

    Attributes:
        benchmark: Where they came from.
        parts: Pairs with embeddings, by split.
        store: The embeddings of all their proteins.
        notes: What the log should tell of each split.
    """

    benchmark: Benchmark
    parts: dict[str, PairData]
    store: EmbeddingStore
    notes: dict[str, object]


def open_splits(config: Config, names: Sequence[Split], accelerator: Accelerator) -> Splits:
    """Read the splits, embed what is new, and join both.

    Raises:
        UserError: The data are missing or wrong, or do not fit the model.
    """
    settings = config.data
    benchmark = prepare_benchmark(settings, config.run.seed, accelerator)
    sequences = benchmark.sequences()
    tables: dict[str, PairTable] = {}
    notes: dict[str, object] = {"species": benchmark.species, "strategy": benchmark.strategy}
    for name in names:
        policy = settings.benchmark.missing_sequences
        table, missing = check_sequences(benchmark.pairs(name), sequences, policy, name)
        tables[name] = table
        positives = int(table.labels.sum())
        notes[name] = f"{len(table)} pairs ({positives} positive, {len(table.proteins)} proteins)"
        if missing is not None:
            notes[f"{name}_dropped"] = str(missing)
    needed = sorted({protein for table in tables.values() for protein in table.proteins})
    store = prepare_store(
        {protein: sequences[protein] for protein in needed},
        settings.embeddings,
        settings.max_sequence_length,
        accelerator,
    )
    check_width(config, store.dim)
    parts = {name: PairData(table, store) for name, table in tables.items()}
    return Splits(benchmark, parts, store, {**notes, "dim": store.dim})


def prepare_benchmark(settings: DataConfig, seed: int, accelerator: Accelerator) -> Benchmark:
    """Open the benchmark; where the configuration says so, rank 0 generates or fetches it first."""

    def provide() -> None:
        if settings.benchmark.name == "demo":
            from common.data.demo import ensure_demo  # generating is a rare thing

            ensure_demo(Path(settings.benchmark.root_dir), seed)
        open_benchmark(settings.benchmark)

    on_main_process(accelerator, provide)
    return open_benchmark(settings.benchmark.model_copy(update={"download": False}))


def check_width(config: Config, dim: int) -> None:
    """Refuse embeddings that the configured model cannot take.

    Raises:
        UserError: `model_config.input_dim` is a number and not theirs.
    """
    wanted = config.model.input_dim
    if wanted not in ("auto", dim):
        raise UserError(
            f"model_config.input_dim is {wanted}, but the embeddings of"
            f" {config.data.embeddings.model_name} have {dim} dimensions; set it to auto"
        )


def residue_statistics(data: PairData) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) over all residues of these pairs' proteins, in float32."""
    count = 0
    total = squares = np.zeros(data.store.dim)
    for protein in data.table.proteins:
        states = data.store[protein].astype(np.float64)
        count += len(states)
        total = total + states.sum(0)
        squares = squares + (states**2).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()
