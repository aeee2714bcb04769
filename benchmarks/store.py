"""Compare the time to read a protein's embedding from our store and by other methods.

    OMP_NUM_THREADS=1 python -m benchmarks.store [--proteins 2000] [--dim 320] [--output FILE.json]

Every way reads proteins in random order, each as a float32 tensor. `memory map` is the lower bound:
one numpy.memmap and known offsets. `one file each` is the naive pipeline (`torch.save` per
protein), `datasets` the same shards through `load_from_disk(...).with_format("numpy")`. All files
are in the system's cache. `opening` times a store of 10,000 short proteins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baseline import FolderOfProteins
from benchmarks.workload import Row as Line
from benchmarks.workload import draw_lengths, run_benchmark, take_time
from common.data.embeddings.shards import Row, ShardWriter, read_shards, write_dataset_files
from common.data.embeddings.store import EmbeddingStore

MANY, SHORT = 10_000, 40

Read = Callable[[int], Tensor]
Table = list[Line]


def write_store(folder: Path, lengths: NDArray[np.int64], dim: int) -> EmbeddingStore:
    """Write a store of random states, protein n under the name str(n)."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder) as writer:
        for number, length in enumerate(lengths.tolist()):
            states = rng.random((length, dim), "f4").astype(np.float16)
            writer.add([Row(str(number), f"{number:032x}", states)])
    return open_store(folder, len(lengths))


def open_store(folder: Path, count: int) -> EmbeddingStore:
    """Open a store as a run does: read and compare sidecars, map shards, find rows."""
    shards, broken = read_shards(folder)
    assert not broken
    return EmbeddingStore(shards, "float16", {str(n): f"{n:032x}" for n in range(count)})


def map_raw(folder: Path, store: EmbeddingStore, lengths: NDArray[np.int64]) -> Read:
    """Read from one file of all states, with a dictionary of offsets."""
    path = folder / "raw"
    with path.open("wb") as file:
        for number in range(len(lengths)):
            file.write(store[str(number)].tobytes())
    mapped = np.memmap(path, np.float16, "r").reshape(-1, store.dim).view(np.ndarray)
    ends = np.cumsum(lengths).tolist()
    places = {
        str(n): (end - length, end)
        for n, (end, length) in enumerate(zip(ends, lengths, strict=True))
    }

    def read(number: int) -> Tensor:
        start, end = places[str(number)]
        return torch.from_numpy(mapped[start:end].astype(np.float32))

    return read


def from_store(store: EmbeddingStore) -> Read:
    """Read from our store."""
    return lambda number: torch.from_numpy(store[str(number)].astype(np.float32))


def from_files(folder: Path, store: EmbeddingStore) -> Read:
    """Read from one file per protein, as the naive pipeline does."""
    files = FolderOfProteins(folder)
    for name in store:
        files.save(name, torch.from_numpy(store[name].copy()))
    return lambda number: files.load(str(number)).float()


def from_datasets(folder: Path, dim: int) -> Read:
    """Read with the `datasets` library, row by row."""
    shards, _ = read_shards(folder)
    write_dataset_files(folder, shards)
    table = datasets.load_from_disk(str(folder))
    rows = {name: row for row, name in enumerate(table["id"])}
    table = table.with_format("numpy")

    def read(number: int) -> Tensor:
        content = table[rows[str(number)]]["embedding"]
        states = np.frombuffer(bytes(content), np.float16).reshape(-1, dim)
        return torch.from_numpy(states.astype(np.float32))

    return read


def measure_reading(proteins: int, dim: int, runs: int) -> Table:
    """Measure microseconds per protein of every way, interleaved; all give the same numbers."""
    lengths = draw_lengths(proteins)
    with TemporaryDirectory() as held, TemporaryDirectory() as files:
        store = write_store(Path(held), lengths, dim)
        ways = {
            "memory map": map_raw(Path(files), store, lengths),
            "ours": from_store(store),
            "one file each": from_files(Path(files), store),
            "datasets": from_datasets(Path(held), dim),
        }
        for read in ways.values():
            assert read(7).equal(ways["memory map"](7))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for run in range(runs):
            order = np.random.default_rng(run).permutation(proteins)[:500].tolist()
            for name, read in ways.items():
                seconds = take_time(lambda: deque(map(read, order), 0)).wall  # noqa: B023
                taken[name].append(seconds / len(order))
    floor = np.array(taken["memory map"])
    return [
        {
            "from": name,
            "µs per protein": 1e6 * min(seconds),
            "times the memory map": float(np.median(np.array(seconds) / floor)),
        }
        for name, seconds in taken.items()
    ]


def measure_opening(runs: int) -> Table:
    """Measure the seconds to open a store of many proteins."""
    with TemporaryDirectory() as folder:
        write_store(Path(folder), np.full(MANY, SHORT), 64)
        seconds = [take_time(lambda: open_store(Path(folder), MANY)).wall for _ in range(runs)]
    return [{"proteins": MANY, "opening, s": min(seconds), "worst, s": max(seconds)}]


if __name__ == "__main__":
    run_benchmark(
        "Time reading the embedding cache.",
        {
            "reading": lambda a: measure_reading(a.proteins, a.dim, a.runs),
            "opening": lambda a: measure_opening(a.runs),
        },
        proteins=2000,
        dim=320,
        runs=5,
    )
