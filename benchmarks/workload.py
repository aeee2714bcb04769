"""What the benchmarks of the model run on, how they take time, and how they report."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import draw_lengths
from benchmarks.operations import Shape
from common.data.batches import PairData
from common.data.embeddings.shards import Embedding
from common.data.embeddings.store import EmbeddingStore
from common.data.tables.pairs import PairTable
from common.files import write_atomically
from common.models.v3 import V3Config, V3Model


class DrawnStore(EmbeddingStore):
    """Random embeddings, drawn anew each time they are asked for: they take no memory."""

    def __init__(self, lengths: NDArray[np.int64], dim: int) -> None:
        self.lengths, self.dim = lengths, dim

    def __getitem__(self, protein: str) -> Embedding:
        number = int(protein)
        drawn = np.random.default_rng(number).random((int(self.lengths[number]), self.dim), "f4")
        return (drawn - 0.5).astype(np.float16)

    def length(self, protein: str) -> int:
        """Residues of a protein."""
        return int(self.lengths[int(protein)])


def make_pairs(proteins: int, pairs: NDArray[np.int64], dim: int, seed: int = 0) -> PairData:
    """Pairs of random proteins, labelled in turn."""
    names = tuple(str(number) for number in range(proteins))
    labels = (np.arange(len(pairs)) % 2).astype(np.int8)
    return PairData(PairTable(names, pairs, labels), DrawnStore(draw_lengths(proteins, seed), dim))


def all_against_all(proteins: int) -> NDArray[np.int64]:
    """Every pair once, self-pairs too, in file order."""
    return np.array([(a, b) for a in range(proteins) for b in range(a, proteins)])


def make_model(shape: Shape, dropout: float = 0.0) -> V3Model:
    """A v3 of these sizes, with weights away from their initial zeros and ones."""
    torch.manual_seed(0)
    config = V3Config(
        input_dim=shape.input_dim,
        d_model=shape.d_model,
        n_heads=shape.heads,
        encoder_layers=shape.encoder_layers,
        cross_attn_layers=shape.cross_layers,
        hidden_dims=[512, 256],
        dropout=dropout,
        head_dropout=dropout,
    )
    model = V3Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.train(False)
    return model


@dataclass(frozen=True)
class Seconds:
    """How long something took: of all its threads together, and on the clock."""

    cpu: float
    wall: float


def take_time(work: Callable[[], object]) -> Seconds:
    """Do it once."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys, in columns."""
    lines = [list(rows[0]), *([show(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(flush=True)


def show(value: Any) -> str:
    """A number to four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_report(path: str | None, report: Mapping[str, Any]) -> None:
    """As JSON, if a file is asked for."""
    if path:
        write_atomically(Path(path), json.dumps(report, indent=1) + "\n")
