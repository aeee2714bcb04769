"""Compare the time and memory of scoring all pairs of a set with those of the naive pipeline.

    OMP_NUM_THREADS=1 python -m benchmarks.scoring [--parts ratio growth] [--output FILE.json]

Parts: `ratio` times naive and ours in turns and compares their logits in every `--naive_share`-th
naive batch; `growth` varies the number of proteins and their lengths; `processes` compares one
process with two; `memory` measures the peak of a process that scores 5,000 proteins.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baseline import FolderOfProteins, NaiveV3, naive_batches
from benchmarks.operations import Shape
from benchmarks.workload import (
    Row,
    all_against_all,
    draw_lengths,
    make_model,
    make_pairs,
    peak_memory,
    run_benchmark,
    take_time,
)
from common.config import ScoringConfig
from common.data.batches import PairData
from common.inference.scoring import score_pairs
from common.models.v3 import V3Model

PROTEINS, NAIVE_BATCH, TOLERANCE = 64, 32, 1e-5
TWO_PROCESSES = Path(__file__).parents[1] / "accelerate_configs" / "cpu_2proc.yaml"


def score(
    model: V3Model, data: PairData, settings: ScoringConfig | None = None
) -> NDArray[np.float32]:
    """Score all pairs on the CPU, and return their logits."""
    accelerator = Accelerator(cpu=True)
    return score_pairs(model, data, settings or ScoringConfig(), accelerator)


def measure_ratio(shape: Shape, runs: int, naive_share: int) -> list[Row]:
    """Measure pairs per second of CPU, naive and ours in turns, and how far the logits differ."""
    pairs = all_against_all(PROTEINS)
    data = make_pairs(draw_lengths(PROTEINS), pairs, shape.input_dim)
    model = make_model(shape)
    naive = NaiveV3(model).eval()
    score(model, make_pairs(draw_lengths(4), all_against_all(4), shape.input_dim))
    in_file_order = [
        slice(start, start + NAIVE_BATCH) for start in range(0, len(data), NAIVE_BATCH)
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        files = FolderOfProteins(Path(folder))
        for name in data.table.proteins:
            files.save(name, torch.from_numpy(data.store[name]))
        for run in range(runs):
            chosen = np.concatenate(
                [np.arange(len(data))[b] for b in in_file_order[run::naive_share]]
            )
            names = [(str(a), str(b)) for a, b in pairs[chosen]]
            ours: list[NDArray[np.float32]] = []
            theirs: list[Tensor] = []
            our_time = take_time(lambda: ours.append(score(model, data))).cpu  # noqa: B023
            time = take_time(
                lambda: theirs.extend(map(naive, naive_batches(files, names, NAIVE_BATCH)))  # noqa: B023
            ).cpu
            rows.append(
                {
                    "heads": shape.heads,
                    "naive pairs/s": len(chosen) / time,
                    "our pairs/s": len(data) / our_time,
                    "ratio": len(data) / our_time / (len(chosen) / time),
                    "logits apart": float(
                        np.abs(torch.cat(theirs).numpy() - ours[0][chosen]).max()
                    ),
                    "GFLOP/s": shape.scoring(data.protein_lengths, data.table.pairs)
                    / our_time
                    / 1e9,
                }
            )
    return rows


def measure_growth(shape: Shape) -> list[Row]:
    """Measure pairs per second of CPU as the number of proteins, and as their lengths, grow."""
    model = make_model(shape)
    cases = [("proteins", count, draw_lengths(count)) for count in (8, 16, 32, 64)]
    cases += [("residues", size, np.full(12, size)) for size in (50, 100, 200, 400, 800)]
    rows = []
    for name, size, lengths in cases:
        data = make_pairs(lengths, all_against_all(len(lengths)), shape.input_dim)
        taken = min(take_time(lambda: score(model, data)).cpu for _ in range(2))  # noqa: B023
        rows.append(
            {
                "what": name,
                "size": size,
                "pairs": len(data),
                "pairs/s": len(data) / taken,
                "GFLOP/s": shape.scoring(data.protein_lengths, data.table.pairs) / taken / 1e9,
            }
        )
    return rows


def measure_processes(shape: Shape, runs: int) -> list[Row]:
    """Time one process and two, with one thread each, in turns."""
    rows = []
    for _ in range(runs):
        one, two = (launch_worker(shape, processes, 40, None, 1.0) for processes in (1, 2))
        rows.append(
            {
                "one, s": one["wall"],
                "two, s": two["wall"],
                "speed-up (wall)": one["wall"] / two["wall"],
                "speed-up (CPU)": one["cpu"] / two["cpu"],
            }
        )
    return rows


def measure_memory(shape: Shape) -> list[Row]:
    """Measure the peak of a process that scores 2,500 pairs of 5,000 proteins, for each budget."""
    rows = []
    for budget in (4.0, 2.0, 1.0):
        peak = launch_worker(shape, 1, 5000, 2500, budget)
        rows.append({"budget, GiB": budget, **{k: peak[k] for k in ("before", "peak", "cpu")}})
    return rows


def launch_worker(
    shape: Shape, processes: int, proteins: int, pairs: int | None, budget: float
) -> Row:
    """Start fresh processes with one thread each; return the report of the main one."""
    command = [sys.executable, "-m", "benchmarks.scoring"]
    if processes == 2:
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)]
        command = [sys.executable, *launcher, "-m", "benchmarks.scoring"]
    order = {"shape": vars(shape), "proteins": proteins, "pairs": pairs, "budget": budget}
    done = subprocess.run(
        [*command, "--worker", json.dumps(order)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    report: Row = json.loads(done.stdout.splitlines()[-1])
    return report


def work(order: Row) -> None:
    """Score in a worker process, and print the time and memory used."""
    shape, count = Shape(**order["shape"]), order["proteins"]
    pairs = all_against_all(count) if order["pairs"] is None else None
    if pairs is None:
        pairs = np.random.default_rng(0).permutation(count)[: 2 * order["pairs"]].reshape(-1, 2)
    data, model = make_pairs(draw_lengths(count), pairs, shape.input_dim), make_model(shape)
    score(model, make_pairs(draw_lengths(4), all_against_all(4), shape.input_dim))
    accelerator = Accelerator(cpu=True)
    accelerator.wait_for_everyone()
    before = peak_memory()
    taken = take_time(lambda: score(model, data, ScoringConfig(memory_gib=order["budget"])))
    slowest = max(gather_object([taken.cpu]))
    report = {"wall": taken.wall, "cpu": slowest, "before": before, "peak": peak_memory()}
    if accelerator.is_main_process:
        print(json.dumps(report))
    accelerator.end_training()


def main() -> None:
    """Measure, or act as the worker of a measurement."""
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
        return
    run_benchmark(
        "Time all-against-all scoring.",
        {
            "ratio": lambda a: measure_ratio(Shape(heads=a.heads), a.runs, a.naive_share),
            "growth": lambda a: measure_growth(Shape(heads=a.heads)),
            "processes": lambda a: measure_processes(Shape(heads=a.heads), a.runs),
            "memory": lambda a: measure_memory(Shape(heads=a.heads)),
        },
        heads=4,
        runs=3,
        naive_share=16,
    )


if __name__ == "__main__":
    main()
