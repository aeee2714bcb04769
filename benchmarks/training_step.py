"""Compare a training step with the naive pipeline's, and measure its memory and mining.

    OMP_NUM_THREADS=1 python -m benchmarks.training_step [--runs 3] [--output FILE.json]

A step is: read and collate 32 pairs, forward, loss, backward, AdamW. `memory` does `--steps` of
ours and reports the process's peak memory; `ratio` does ours in turns with the naive pipeline's;
`mining` compares an epoch that mines the hardest pairs of pools with a plain one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.baseline import FolderOfProteins, NaiveBatch, NaiveV3, naive_batches
from benchmarks.operations import Shape
from benchmarks.workload import (
    Row,
    draw_lengths,
    make_model,
    make_pairs,
    peak_memory,
    run_benchmark,
    take_time,
)
from common.config import LossConfig, TrainingConfig
from common.config_data import DataloaderConfig, SamplingConfig
from common.data.batches import BatchPlanner, PairData, Rows
from common.memory import FreedMemory
from common.models.v3 import V3Model
from common.training.losses import PairLoss
from common.training.ohem import Miner

PAIRS, PROTEINS = 32, 400


def draw_pairs(count: int, shape: Shape) -> PairData:
    """Draw random pairs of proteins of human lengths."""
    pairs = np.random.default_rng(1).integers(0, PROTEINS, (count, 2))
    return make_pairs(draw_lengths(PROTEINS), pairs, shape.input_dim)


class Trainer:
    """Trains with the program's training step."""

    def __init__(self, model: V3Model, data: PairData) -> None:
        self.model, self.data = model.train(), data
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def train(self, rows: Rows) -> None:
        """Do one step on these rows of the table, and keep the gradients."""
        batch = self.data.collate(rows, len(rows))
        self.optimizer.zero_grad()
        logits = self.model(batch.proteins, batch.lengths, batch.pairs).logits
        binary_cross_entropy_with_logits(logits, batch.labels).backward()
        self.optimizer.step()


class NaiveTrainer:
    """Trains with the training step of the naive pipeline."""

    def __init__(self, model: NaiveV3, data: PairData, folder: Path) -> None:
        self.model, self.data, self.files = model.train(), data, FolderOfProteins(folder)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        self.padding = 0.0

    def save(self, rows: Rows) -> None:
        """Write the proteins of these rows, each to its file."""
        for protein in np.unique(self.data.table.pairs[rows]).tolist():
            self.files.save(str(protein), torch.from_numpy(self.data.store[str(protein)]))

    def train(self, rows: Rows) -> None:
        """Do one step on these rows of the table, and keep the gradients."""
        names = [(str(a), str(b)) for a, b in self.data.table.pairs[rows].tolist()]
        labels = torch.from_numpy(self.data.table.labels[rows]).float()
        self.optimizer.zero_grad()
        batch: NaiveBatch
        for batch in naive_batches(self.files, names, len(names)):
            self.padding = batch.padding
            binary_cross_entropy_with_logits(self.model(batch), labels).backward()
        self.optimizer.step()


def measure_memory(steps: int) -> list[Row]:
    """Measure peak memory after more and more steps of a model 64 wide, with 1+1 layers."""
    shape = Shape(d_model=64, heads=2, encoder_layers=1, cross_layers=1)
    data = draw_pairs(steps * PAIRS, shape)
    trainer, freed, rows = Trainer(make_model(shape, 0.1), data), FreedMemory(), []
    for step, chosen in enumerate(np.split(np.arange(len(data)), steps), 1):
        trainer.train(chosen)
        freed.give_back()
        if step in (1, steps // 4, steps // 2, steps):
            rows.append({"steps": step, "peak, GiB": peak_memory()})
    return rows


def measure_ratio(shape: Shape, dropout: float, runs: int) -> list[Row]:
    """Measure the CPU seconds of a step, naive and ours in turns."""
    data = draw_pairs(runs * PAIRS, shape)
    model = make_model(shape, dropout)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        naive = NaiveTrainer(NaiveV3(model), data, Path(folder))
        trainer = Trainer(model, data)
        first = np.arange(4)  # The first step of both makes room for the optimizer's moments.
        naive.save(first)
        naive.train(first)
        trainer.train(first)
        for chosen in np.split(np.arange(len(data)), runs):
            naive.save(chosen)
            taken = min(take_time(lambda: naive.train(chosen)).cpu for _ in range(2))  # noqa: B023
            ours = min(take_time(lambda: trainer.train(chosen)).cpu for _ in range(2))  # noqa: B023
            rows.append(
                {
                    "dropout": dropout,
                    "proteins": len(np.unique(data.table.pairs[chosen])),
                    "naive padding": naive.padding,
                    "naive, s": taken,
                    "ours, s": ours,
                    "ratio": taken / ours,
                }
            )
    return rows


def planner(data: PairData, **sampling: Any) -> BatchPlanner:
    """Create a planner of rounds of 32 pairs each."""
    loading = DataloaderConfig(sampling=SamplingConfig(**sampling))
    return BatchPlanner.from_settings(data, loading, TrainingConfig(batch_size=PAIRS), 1, 47)


def measure_mining(shape: Shape, runs: int, pool: int = 4) -> list[Row]:
    """Measure CPU seconds for an epoch's pairs: trained on plainly, or mined from pools."""
    data = draw_pairs(pool * PAIRS, shape)
    model = make_model(shape, 0.1)
    trainer = Trainer(model, data)
    mined = {"strategy": "ohem", "warmup_epochs": 0, "pool_multiplier": pool}
    plain, mining = planner(data), planner(data, **mined)
    accelerator = Accelerator(cpu=True)
    miner = Miner(mining.sampling, PairLoss(LossConfig()), accelerator)

    def train_plainly() -> None:
        for rows in plain.rounds(0):
            trainer.train(rows)

    def train_mined() -> None:
        for rows in mining.rounds(0):
            whole = data.collate(rows, len(rows))
            trainer.train(np.asarray(miner.mine(model, whole, data.table).rows))

    rows = []
    for _ in range(runs):
        seconds = take_time(train_plainly).cpu, take_time(train_mined).cpu
        row = {"pairs": len(data), "pool": pool, "plain, s": seconds[0], "mining, s": seconds[1]}
        rows.append({**row, "cost of mining": seconds[1] / seconds[0]})
    return rows


if __name__ == "__main__":
    run_benchmark(
        "Time a training step.",
        {
            "memory": lambda a: measure_memory(a.steps),
            "ratio": lambda a: [
                row
                for dropout in (0.0, 0.1)
                for row in measure_ratio(Shape(heads=a.heads), dropout, a.runs)
            ],
            "mining": lambda a: measure_mining(Shape(heads=a.heads), a.runs),
        },
        heads=4,
        runs=3,
        steps=40,
    )
