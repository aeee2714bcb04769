"""Whether two runs left the same: weights, optimizer, random states, schedule, rows, scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file


def logs_of(models: Path) -> Path:
    """The log directory of the run with this model directory."""
    return models.parents[3] / "logs" / Path(*models.parts[-3:])


def assert_same_run(one: Path, other: Path, epochs: int) -> None:
    """Weights, optimizer, random states, schedule and rows are the same to the last bit."""
    files = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    found = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert found == files, set(found) ^ set(files)
    for name in files:
        compare = COMPARISONS.get(name.suffix, same_json)
        # They name the run; the card has a digest of the configuration.
        if name.name not in ("config.yaml", "README.md"):
            assert compare(one / name, other / name), name
    logs = [sorted(entry.name for entry in logs_of(run).iterdir()) for run in (one, other)]
    assert logs[0] == logs[1]
    tables = [timeless_rows(logs_of(run) / "training_step.csv") for run in (one, other)]
    assert tables[0] == tables[1]
    assert [row[0] for row in tables[0]] == ["Epoch", *map(str, range(1, epochs + 1))]


def assert_same_store(one: Path, other: Path) -> None:
    """Two caches hold the same states of the same sequences, each once, and nothing unfinished."""
    ours, theirs = stored_states(one), stored_states(other)
    assert ours == theirs
    assert ours
    assert [path.name for path in one.rglob(".*")] == []


def stored_states(cache: Path) -> dict[str, bytes]:
    """The states of each sequence, by its hash."""
    shards = sorted(cache.glob("*/data-*.arrow"))
    tables = [pa.ipc.open_stream(shard.read_bytes()).read_all() for shard in shards]
    table = pa.concat_tables(tables)
    hashes = table["sequence_hash"].to_pylist()
    assert len(set(hashes)) == len(hashes), "a sequence was stored twice"
    return dict(zip(hashes, table["embedding"].to_pylist(), strict=True))


def timeless_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return [row[:1] + row[2:] for row in csv.reader(file)]


def same_tensors(one: Path, other: Path) -> bool:
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)


def same_pickle(one: Path, other: Path) -> bool:
    loaded = [torch.load(path, weights_only=False) for path in (one, other)]
    same: bool = numbers_of(loaded[0]) == numbers_of(loaded[1])
    return same


def numbers_of(value: Any) -> Any:
    """Something that compares by every number in it."""
    if isinstance(value, dict):
        return {key: numbers_of(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [numbers_of(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def same_json(one: Path, other: Path) -> bool:
    """But for what tells times, and checksums over that."""
    contents = [json.loads(path.read_text()) for path in (one, other)]
    for content in contents:
        for checksum in ("files", "seal"):
            content.pop(checksum, None)
        for row in content.get("rows", []):
            row.pop("seconds")
            row.pop("pairs_per_second")
    same: bool = contents[0] == contents[1]
    return same


COMPARISONS: dict[str, Callable[[Path, Path], bool]] = {
    ".npy": same_bytes,
    ".safetensors": same_tensors,
    ".bin": same_pickle,
    ".pkl": same_pickle,
}
