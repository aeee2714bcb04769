"""Measure time and memory for networks of a whole proteome, and test that a kill changes nothing.

    OMP_NUM_THREADS=1 python -m benchmarks.scaling --parts factorised products pooled
    OMP_NUM_THREADS=1 python -m benchmarks.scaling --parts command --checkpoint DIR --prefilter DIR

The first three take models with random weights and random means of 320 dimensions (ESM-2 8M), so
embedding is not counted: `factorised` keeps the 100 best partners of each protein, `products`
computes the products of matrices alone, `pooled` keeps the pairs of a `--part`-th of the proteins
with all that reach a threshold, and says how long all pairs would take. `command` runs evaluate.py
on generated sequences, once to the end, once until it is killed after `--kill_at` percent of that
time, and to its end again; `--options` are further options. The first of its runs also embeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from benchmarks.workload import Row, draw_lengths, make_pairs, peak_memory, run_benchmark, take_time
from common.config import MlpHeadConfig, ModelConfig, ScoringConfig
from common.files import hash_file
from common.inference.grid_scoring import score_grid
from common.inference.pair_grid import PairGrid
from common.inference.score_journal import ScoreJournal
from common.inference.scoring_job import ScoringJob
from common.inference.selection import select_of_grid
from common.inference.wish import Wish
from common.models import build_model

ROOT = Path(__file__).parents[1]
DIM, WIDTH, PARTNERS = 320, 256, 100
HEADS = {"factorised": (512,), "pooled": (256, 64)}
RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def select(name: str, proteins: int, rows: int, wish: Wish) -> Row:
    """Score random means, the first `rows` with all, in this process; select the wanted pairs."""
    torch.manual_seed(0)
    head = MlpHeadConfig(hidden_dims=HEADS[name])
    model = build_model(ModelConfig(model=name, d_model=WIDTH, mlp_head=head), DIM)
    data = make_pairs(np.ones(proteins, np.int64), np.empty((0, 2), np.int64), DIM)
    job = ScoringJob(model, data, ScoringConfig(), Accelerator(cpu=True), name)
    every = np.arange(proteins)
    grid = PairGrid(proteins, every[:rows], every)
    selection, kept = select_of_grid(wish, grid), 0

    def stream() -> None:
        nonlocal kept
        with tempfile.TemporaryDirectory() as folder:
            journal = ScoreJournal.open(Path(folder), "benchmark", job.accelerator)
            for pairs in score_grid(job, grid, journal):
                kept += sum(len(part.logits) for part in selection.take(pairs))
        kept += sum(len(part.logits) for part in selection.finish())

    taken = take_time(stream)
    return {
        "proteins": proteins,
        "pairs": grid.count,
        "kept": kept,
        "CPU, s": taken.cpu,
        "wall, s": taken.wall,
        "pairs/s of CPU": grid.count / taken.cpu,
        "peak, GiB": peak_memory(),
    }


def measure_pooled(proteins: int, part: int) -> Row:
    """Measure the pairs of a `part`-th of the proteins with all; extrapolate to all pairs."""
    row = select("pooled", proteins, proteins // part, Wish(threshold=0.6))
    every = PairGrid.all_against_all(proteins).count
    return {**row, f"CPU for {proteins}, min": every / row["pairs/s of CPU"] / 60}


def measure_products(proteins: int) -> Row:
    """Compute all logits of the two-tower model, block by block, and only count the high ones."""
    torch.manual_seed(0)
    p, q = torch.randn(2, proteins, WIDTH)
    bias, high, step = torch.randn(proteins), 0, 1024

    def multiply() -> None:
        nonlocal high
        for start in range(0, proteins, step):
            rows = slice(start, start + step)
            logits = torch.addmm(bias[start:], p[rows], q[start:].T)
            logits.addmm_(q[rows], p[start:].T)
            high += int((logits > WIDTH).sum())

    taken = take_time(multiply)
    pairs = proteins * (proteins + 1) // 2
    return {"pairs": pairs, "CPU, s": taken.cpu, "GFLOP/s": 4 * WIDTH * pairs / taken.cpu / 1e9}


def measure_command(arguments: argparse.Namespace) -> list[Row]:
    """Run evaluate.py as a user does; kill it in the middle and run it again."""
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    fasta = folder / "proteome.fasta"
    write_sequences(fasta, arguments.proteins)
    command = [sys.executable, str(ROOT / "evaluate.py"), "--checkpoint", arguments.checkpoint]
    command += ["--fasta", str(fasta), *arguments.options.split()]
    if arguments.prefilter:
        command += ["--prefilter", arguments.prefilter, "--share", arguments.share]
    whole, killed = folder / "whole.tsv", folder / "killed.tsv"
    rows = [run_command("whole", [*command, "--output", str(whole)])]
    again = [*command, "--output", str(killed)]
    rows.append(run_command("killed", again, rows[0]["wall, s"] * arguments.kill_at / 100))
    rows.append(run_command("resumed", again))
    for row in rows:
        row["same bytes"] = row["what"] != "killed" and hash_file(whole) == hash_file(killed)
    print(f"{whole}: {whole.stat().st_size} bytes")
    return rows


def run_command(what: str, command: list[str], kill_after: float | None = None) -> Row:
    """Run a command, kill it after some seconds, and report its time and memory."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    _, status, used = os.wait4(process.pid, 0)
    return {
        "what": what,
        "exit": os.waitstatus_to_exitcode(status),
        "wall, s": time.perf_counter() - start,
        "CPU, s": used.ru_utime + used.ru_stime,
        "peak, GiB": used.ru_maxrss / 2**20,
    }


def write_sequences(path: Path, count: int) -> None:
    """Write random sequences of human lengths."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for number, length in enumerate(draw_lengths(count)):
            file.write(f">P{number:05d}\n{''.join(rng.choice(RESIDUES, length))}\n")


WORKERS: dict[str, Callable[..., Row]] = {
    "factorised": lambda proteins: select("factorised", proteins, proteins, Wish(top_k=PARTNERS)),
    "products": measure_products,
    "pooled": measure_pooled,
}


def measure(name: str, *values: int) -> list[Row]:
    """Measure in a separate process, whose peak memory is that of this measurement."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--worker", name, *map(str, values)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return [row]


def main() -> None:
    """Measure, or act as the worker of a measurement."""
    if sys.argv[1:2] == ["--worker"]:
        name, *values = sys.argv[2:]
        print(json.dumps(WORKERS[name](*map(int, values))))
        return
    run_benchmark(
        "Time the networks of whole proteomes.",
        {
            "factorised": lambda a: measure("factorised", a.proteins),
            "products": lambda a: measure("products", a.proteins),
            "pooled": lambda a: measure("pooled", a.proteins, a.part),
            "command": measure_command,
        },
        proteins=20_000,
        part=100,
        checkpoint="",
        prefilter="",
        share="0.001",
        options="",
        kill_at=50,
    )


if __name__ == "__main__":
    main()
