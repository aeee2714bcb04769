"""Check v3 with the shipped configuration on a GPU, and measure its speed and memory.

    python -m benchmarks.gpu [--output DIR] [--parts checks training ...]
    python -m benchmarks.gpu --quick            (a toy size in seconds, on a CPU too)

It takes at most six minutes: a part that would begin after `--minutes` is left out. Parts: `checks`
compares the fast path with slower ones; `training` times steps at human lengths; `scoring` scores
all against all for a minute and extrapolates to the human BFS test network; `embedding` tries
budgets of tokens; `compiled` is `training` with the row-wise methods compiled. Shares are of the
speed of a bf16 matrix product measured at the start; operations are those of `operations.py`.

Needs torch (2.11 or later), transformers, accelerate, numpy, scipy, pydantic, xxhash, tqdm and a
YAML library, but neither datasets nor pyarrow. All weights and inputs are random.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate.utils import TorchDynamoPlugin

from benchmarks.embedding import draw_sequences, embedding, make_language_model, ours
from benchmarks.gpu_checks import Bench, Training, open_bench, run_checks
from benchmarks.workload import (
    Row,
    print_table,
)
from common.config import ScoringConfig
from common.data.batches import PairData
from common.inference.compiling import compile_rows
from common.inference.scoring import score_pairs


def measure_training(bench: Bench, compiled: bool = False) -> list[Row]:
    """Measure the pairs per second of training steps."""
    training = Training(bench)
    start = time.perf_counter()
    if compiled:
        backend = "inductor" if bench.device.type == "cuda" else "eager"
        training.accelerator.state.dynamo_plugin = TorchDynamoPlugin(backend=backend)
        compile_rows(training.unwrapped, training.accelerator)
    batches = training.batches(10)
    for batch in batches:
        training.step(batch)
    bench.wait()
    bench.memory()
    warm, rows = time.perf_counter() - start, []
    used = list(itertools.islice(itertools.cycle(batches), bench.sizes.steps))
    for _ in range(3):
        taken = bench.seconds(lambda: [training.step(batch) for batch in used])
        rows.append(
            {
                "compiled": compiled,
                "warm-up, s": warm,
                "pairs/s": sum(len(batch.pairs) for batch in used) / taken,
                "ms per step": 1000 * taken / len(used),
                "share of peak": bench.share(sum(map(training.operations, used)), taken),
                "memory, GiB": bench.memory(),
            }
        )
    return rows


def measure_scoring(bench: Bench) -> list[Row]:
    """Score all against all for about a minute, and estimate the time for the human network."""
    accelerator, model, shape = bench.accelerator(), bench.model(), bench.shape()

    def operations(data: PairData) -> float:
        return shape.scoring(data.protein_lengths, data.table.pairs)

    def score(data: PairData) -> float:
        return bench.seconds(lambda: score_pairs(model, data, ScoringConfig(), accelerator))

    few = bench.pairs(bench.sizes.proteins)
    score(few)
    pairs = len(few) / score(few) * bench.sizes.seconds
    data = bench.pairs(min(round((2 * pairs) ** 0.5), 2 * bench.sizes.network))
    bench.memory()
    taken = score(data)
    whole = operations(bench.pairs(bench.sizes.network))
    return [
        {
            "proteins": len(data.protein_lengths),
            "pairs": len(data),
            "seconds": taken,
            "pairs/s": len(data) / taken,
            "share of peak": bench.share(operations(data), taken),
            "memory, GiB": bench.memory(),
            f"{bench.sizes.network} proteins, s": taken * whole / operations(data),
        }
    ]


def measure_embedding(bench: Bench) -> list[Row]:
    """Measure residues per second of a model of ESM-2 650M's shape for each budget of tokens."""
    layers, width, heads = bench.sizes.language_model
    model = make_language_model(layers, width, heads, bench.device)
    sequences = draw_sequences(bench.sizes.embedded)
    rows = []
    for budget in bench.sizes.budgets:
        batches = ours(sequences, budget, model.special_tokens)
        embedding(model, batches[:1])()
        bench.memory()
        taken = bench.seconds(embedding(model, batches))
        residues = sum(map(len, sequences))
        rows.append(
            {"tokens": budget, "residues/s": residues / taken, "memory, GiB": bench.memory()}
        )
    return rows


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "checks": run_checks,
    "training": measure_training,
    "scoring": measure_scoring,
    "embedding": measure_embedding,
    "compiled": lambda bench: measure_training(bench, compiled=True),
}


def run_parts(bench: Bench, parts: Sequence[str], folder: Path, minutes: float) -> bool:
    """Run the parts and return whether all succeeded; the report is written after each part.

    If a part fails, only its own numbers are missing.
    """
    start, failed = time.monotonic(), False
    for name in parts:
        if time.monotonic() - start > 60 * minutes:
            bench.report[name] = "left out: no time"
            continue
        try:
            rows = PARTS[name](bench)
            failed |= not all(row.get("passed", True) for row in rows)
            bench.report[name] = rows
            print(f"{name} ({time.monotonic() - start:.0f} s)")
            print_table(rows)
        except Exception as error:  # whatever a new card or library brings
            failed = True
            bench.report[name] = f"failed: {type(error).__name__}: {error}"
            print(f"{name} {bench.report[name]}\n", flush=True)
        (folder / "gpu.json").write_text(json.dumps(bench.report, indent=1) + "\n")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    return not failed


def main() -> None:
    """Check, measure, print tables, write `gpu.json`; exit code 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Check and time v3 on a GPU.")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a toy size, on a CPU too")
    parser.add_argument("--minutes", type=float, default=5.0, help="begin no part later than this")
    parser.add_argument("--output", type=Path, default=Path(), help="directory for gpu.json")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.quick):
        parser.error("there is no GPU here; --quick runs a toy size on the CPU")
    arguments.output.mkdir(parents=True, exist_ok=True)
    bench = open_bench(arguments.quick)
    print({key: value for key, value in bench.report.items() if not isinstance(value, list)})
    well = run_parts(bench, arguments.parts, arguments.output, arguments.minutes)
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
