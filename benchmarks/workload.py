"""Random data for the benchmarks of the model, and helpers to measure and report times."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.operations import Shape
from common.console import align
from common.data.batches import PairData
from common.files import write_atomically
from common.models.v3 import V3Config, V3Model

MEDIAN_LENGTH, LENGTH_SPREAD, SHORTEST, LONGEST = 367, 0.6, 30, 1000


Row = dict[str, Any]


class SlicedStore:
    """Stands in for an `EmbeddingStore`: protein n is a slice of one random matrix, from row n on.

    Like mapped files, it costs next to nothing to read, and it takes hardly any memory.
    """

    def __init__(self, lengths: NDArray[np.int64], dim: int) -> None:
        self.lengths, self.dim = lengths, dim
        rows = len(lengths) + int(lengths.max())
        drawn = np.random.default_rng(0).random((rows, dim), "f4")
        self.states = (drawn - 0.5).astype(np.float16)

    def __getitem__(self, protein: str) -> NDArray[np.float16]:
        return self.states[int(protein) : int(protein) + self.length(protein)]

    def length(self, protein: str) -> int:
        """Return the number of a protein's residues."""
        return int(self.lengths[int(protein)])

    residues = length

    def gather(self, proteins: Sequence[str]) -> NDArray[np.float16]:
        """Return the residues of some proteins, laid end to end."""
        return np.concatenate([self[protein] for protein in proteins])


@dataclass(frozen=True)
class Table:
    """Stands in for a `PairTable`, which needs libraries for files."""

    proteins: tuple[str, ...]
    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.pairs)


def make_pairs(lengths: NDArray[np.int64], pairs: NDArray[np.int64], dim: int) -> PairData:
    """Make pairs of proteins of these lengths, with random embeddings and labels 0, 1 in turn."""
    names = tuple(str(number) for number in range(len(lengths)))
    table: Any = Table(names, pairs, (np.arange(len(pairs)) % 2).astype(np.int8))
    store: Any = SlicedStore(lengths, dim)
    return PairData(table, store)


def draw_lengths(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw human-like protein lengths: lognormal, median 367, mean about 430, at most 1000."""
    drawn = np.random.default_rng(seed).lognormal(math.log(MEDIAN_LENGTH), LENGTH_SPREAD, count)
    return drawn.clip(SHORTEST, LONGEST).astype(np.int64)


def all_against_all(proteins: int) -> NDArray[np.int64]:
    """List every pair once, also self-pairs, in file order."""
    return np.stack(np.triu_indices(proteins), axis=1)


def make_model(shape: Shape, dropout: float = 0.0) -> V3Model:
    """Create a v3 of these sizes, with weights away from their initial zeros and ones."""
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
    """A duration: the CPU time of all threads, and the wall time."""

    cpu: float
    wall: float


def take_time(work: Callable[[], object]) -> Seconds:
    """Do some work once, and return its duration."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def peak_memory() -> float:
    """Return the most memory that this process has used, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> dict[str, Any]:
    """Describe the machine that the numbers were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same keys as a table."""
    lines = [list(rows[0]), *([show(value) for value in row.values()] for row in rows)]
    print(align(lines), end="\n\n", flush=True)


def show(value: Any) -> str:
    """Format a number with four digits, and anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run_benchmark(
    description: str,
    parts: Mapping[str, Callable[[argparse.Namespace], list[Row]]],
    **options: int | str,
) -> None:
    """Parse the command line, measure its parts, print their tables and write the report.

    Args:
        description: The description for `--help`.
        parts: The functions that measure, by the names of their parts.
        options: Numbers and texts that can be set, and their defaults.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"machine": machine()}
    for name in arguments.parts:
        report[name] = parts[name](arguments)
        print(name)
        print_table(report[name])
    if arguments.output:
        write_atomically(arguments.output, json.dumps(report, indent=1) + "\n")
