"""What a training step costs, against the naive pipeline, and what mining and hub batches change.

    OMP_NUM_THREADS=1 python -m benchmarks.training_step [--runs 3] [--output FILE.json]

A step is: read and collate 32 pairs, forward, loss, backward, AdamW. `ratio` takes it in turns with
the naive pipeline and compares all gradients, without dropout; `mining` compares an epoch that
mines the hardest pairs of pools with a plain one, `batching` shuffled with hub-aware batches, on
pairs whose proteins have a heavy-tailed number of partners.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.baseline import FolderOfProteins, NaiveBatch, NaiveV3, naive_batches
from benchmarks.operations import Shape
from benchmarks.workload import (
    DrawnStore,
    machine,
    make_model,
    make_pairs,
    print_table,
    take_time,
    write_report,
)
from common.config import DataloaderConfig, LossConfig, SamplingConfig, TrainingConfig
from common.data.batches import BatchPlanner, PairData, Rows
from common.data.embeddings.shards import Embedding
from common.models.v3 import V3Model
from common.training.losses import PairLoss
from common.training.ohem import Miner

PAIRS, PROTEINS = 32, 400
Row = dict[str, Any]


class HeldStore(DrawnStore):
    """Embeddings drawn once and held: like mapped files, they cost next to nothing to read."""

    def __init__(self, drawn: DrawnStore) -> None:
        super().__init__(drawn.lengths, drawn.dim)
        self.held = [drawn[str(number)] for number in range(len(drawn.lengths))]

    def __getitem__(self, protein: str) -> Embedding:
        return self.held[int(protein)]


def heavy_tailed_pairs(count: int, proteins: int, seed: int = 0) -> NDArray[np.int64]:
    """Distinct pairs of which few proteins have many: chances fall as rank to the power -0.7."""
    rng = np.random.default_rng(seed)
    chances = np.arange(1, proteins + 1) ** -0.7
    drawn = rng.choice(proteins, (8 * count, 2), p=chances / chances.sum())
    pairs = rng.permutation(np.unique(np.sort(drawn, axis=1), axis=0))
    return np.asarray(pairs[:count])


def make_data(pairs: NDArray[np.int64], dim: int) -> PairData:
    """Pairs of proteins whose embeddings are held in memory."""
    data = make_pairs(PROTEINS, pairs, dim)
    assert isinstance(data.store, DrawnStore)
    data.store = HeldStore(data.store)
    return data


class Trainer:
    """Our step."""

    def __init__(self, model: V3Model, data: PairData) -> None:
        self.model, self.data = model.train(), data
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def train(self, rows: Rows) -> None:
        """One step on these rows of the table; the gradients stay."""
        batch = self.data.collate(rows, len(rows))
        self.optimizer.zero_grad()
        logits = self.model(batch.proteins, batch.lengths, batch.pairs).logits
        binary_cross_entropy_with_logits(logits, batch.labels).backward()
        self.optimizer.step()


class NaiveTrainer:
    """The naive pipeline's step."""

    def __init__(self, model: NaiveV3, data: PairData, folder: Path) -> None:
        self.model, self.data, self.files = model.train(), data, FolderOfProteins(folder)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        self.padding = 0.0

    def save(self, rows: Rows) -> None:
        """Write the proteins of these rows, each to its file."""
        for protein in np.unique(self.data.table.pairs[rows]).tolist():
            self.files.save(str(protein), torch.from_numpy(self.data.store[str(protein)]))

    def train(self, rows: Rows) -> None:
        """One step on these rows of the table; the gradients stay."""
        names = [(str(a), str(b)) for a, b in self.data.table.pairs[rows].tolist()]
        labels = torch.from_numpy(self.data.table.labels[rows]).float()
        self.optimizer.zero_grad()
        batch: NaiveBatch
        for batch in naive_batches(self.files, names, len(names)):
            self.padding = batch.padding
            binary_cross_entropy_with_logits(self.model(batch), labels).backward()
        self.optimizer.step()


def measure_ratio(shape: Shape, dropout: float, runs: int) -> list[Row]:
    """CPU seconds of a step, naive and ours, in turns."""
    rng = np.random.default_rng(1)
    data = make_data(rng.integers(0, PROTEINS, (runs * PAIRS, 2)), shape.input_dim)
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
                    "gradients": difference(model, naive.model) if dropout == 0 else "",
                }
            )
    return rows


def difference(model: V3Model, naive: NaiveV3) -> float:
    """The largest difference of a gradient, over all parameters that both have by name."""
    ours = dict(model.named_parameters())
    theirs = [(name, p) for name, p in naive.named_parameters() if name in ours]
    pairs = [(gradient(ours[name]), gradient(p)) for name, p in theirs]
    pairs += [(a, b) for x, y in attentions(model, naive) for a, b in zip(x, y, strict=True)]
    return max(float((a - b).abs().max()) for a, b in pairs)


def attentions(model: V3Model, naive: NaiveV3) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Gradients of our projections, and of theirs, which PyTorch's module holds as one."""
    for name, module in naive.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            ours: Any = model.get_submodule(name)
            weights = [gradient(layer.weight) for layer in (ours.query, ours.key_value)]
            biases = [gradient(layer.bias) for layer in (ours.query, ours.key_value)]
            theirs = [gradient(module.in_proj_weight), gradient(module.in_proj_bias)]
            yield [torch.cat(weights), torch.cat(biases)], theirs


def gradient(parameter: Tensor) -> Tensor:
    """What backward left."""
    assert parameter.grad is not None
    return parameter.grad


def planner(data: PairData, **sampling: Any) -> BatchPlanner:
    """The rounds of an epoch, 32 pairs each."""
    loading = DataloaderConfig(sampling=SamplingConfig(**sampling))
    return BatchPlanner.from_settings(data, loading, TrainingConfig(batch_size=PAIRS), 1, 47)


def measure_mining(shape: Shape, runs: int, pool: int = 4) -> list[Row]:
    """CPU seconds for an epoch's pairs: trained on plainly, or mined from pools."""
    data = make_data(heavy_tailed_pairs(pool * PAIRS, PROTEINS), shape.input_dim)
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


def main() -> None:
    """Measure, print tables, write the report."""
    parser = argparse.ArgumentParser(description="Time a training step.")
    known = ("ratio", "mining")
    parser.add_argument("--parts", nargs="+", choices=known, default=list(known))
    parser.add_argument("--heads", type=int, default=4, help="attention heads of the model")
    parser.add_argument("--runs", type=int, default=3, help="repetitions, interleaved")
    parser.add_argument("--output", help="JSON file to write")
    arguments = parser.parse_args()
    shape, runs = Shape(heads=arguments.heads), arguments.runs
    report: dict[str, Any] = {"machine": machine()}
    for part in arguments.parts:
        if part == "ratio":
            rows = measure_ratio(shape, 0.0, runs) + measure_ratio(shape, 0.1, runs)
        else:
            rows = measure_mining(shape, runs)
        report[part] = rows
        print(part)
        print_table(rows)
    write_report(arguments.output, report)


if __name__ == "__main__":
    main()
