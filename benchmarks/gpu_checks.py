"""The test bench of `benchmarks.gpu`, and checks that compare the fast path with slower paths."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor

from benchmarks.operations import Shape
from benchmarks.workload import (
    Row,
    all_against_all,
    draw_lengths,
    machine,
    make_pairs,
    peak_memory,
)
from common.config import Config, ScoringConfig
from common.config_file import load_config
from common.data.batches import PairBatch, PairData
from common.inference.scoring import score_pairs
from common.models import PairModel, build_model
from common.models.ragged import Layout, Links, Ragged, attend, attention_path
from common.training.losses import PairLoss, share_of_global_mean
from common.training.optimization import build_optimizer

SHIPPED = Path(__file__).parents[1] / "configs" / "v3.yaml"
TOY = ("d_model=32", "n_heads=2", "encoder_layers=1", "cross_attn_layers=1")
TERA = 1e12


@dataclass(frozen=True)
class Sizes:
    """The sizes of all measurements, by default for a GPU."""

    input_dim: int = 1280  # ESM-2 650M
    matrix: int = 8192  # edge of the matrices whose product measures the peak
    proteins: int = 200  # in training, and in the first scoring, whose speed sets the next number
    steps: int = 40  # in one timing
    seconds: float = 65.0  # of scoring
    network: int = 2018  # proteins of the human BFS test network
    embedded: int = 320
    budgets: tuple[int, ...] = (8192, 16384, 32768, 65536, 131072)
    language_model: tuple[int, int, int] = (33, 1280, 20)  # layers, width, heads of ESM-2 650M


QUICK = Sizes(16, 64, 6, 2, 0.1, 12, 4, (512, 1024), (1, 16, 2))


@dataclass
class Bench:
    """A device, the configuration and the report so far."""

    config: Config
    sizes: Sizes
    device: torch.device
    report: dict[str, Any] = field(default_factory=dict)

    def accelerator(self, precision: str = "bf16") -> Accelerator:
        """Create an accelerator like that of a launch with this precision."""
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision=precision,
            gradient_accumulation_steps=self.config.training.gradient_accumulation_steps,
        )

    def model(self) -> PairModel:
        """Create a new v3 on the device, with the same weights every time."""
        set_seed(self.config.run.seed)
        model = build_model(self.config.model, self.sizes.input_dim)
        model.to(self.device)  # type: ignore[arg-type]
        return model

    def shape(self) -> Shape:
        """Return the sizes of the model for counting operations."""
        m = self.config.model
        return Shape(
            self.sizes.input_dim, m.d_model, m.n_heads, m.encoder_layers, m.cross_attn_layers
        )

    def pairs(self, proteins: int) -> PairData:
        """Make all pairs of proteins of human lengths."""
        return make_pairs(draw_lengths(proteins), all_against_all(proteins), self.sizes.input_dim)

    def wait(self) -> None:
        """Wait until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """Measure the wall time of some work, including the device's."""
        self.wait()
        start = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - start

    def share(self, operations: float, seconds: float) -> float:
        """Compute the fraction of the measured peak speed that was reached."""
        return operations / seconds / TERA / float(self.report["peak TFLOP/s"])

    def memory(self) -> float:
        """Return the peak of allocated memory since the last call, in GiB (on a CPU: ever)."""
        if self.device.type != "cuda":
            return peak_memory()
        most = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return most


class Training:
    """A model in training, stepped as `pretrain.py` does."""

    def __init__(self, bench: Bench, precision: str = "bf16") -> None:
        self.bench, self.accelerator = bench, bench.accelerator(precision)
        self.unwrapped = bench.model()
        optimizer = build_optimizer(self.unwrapped, bench.config.training.optimizer)
        self.model, self.optimizer = self.accelerator.prepare(self.unwrapped, optimizer)
        self.loss = PairLoss(bench.config.training.loss)

    def batches(self, count: int) -> list[PairBatch]:
        """Make distinct batches of random pairs, in page-locked memory where there is a GPU."""
        data, rng = self.bench.pairs(self.bench.sizes.proteins), np.random.default_rng(1)
        size = self.bench.config.training.batch_size
        rows = [rng.choice(len(data), size, replace=False) for _ in range(count)]
        made = [data.collate(chosen, size) for chosen in rows]
        return [b.pin_memory() for b in made] if self.bench.device.type == "cuda" else made

    def step(self, batch: PairBatch) -> Tensor:
        """Do one step, and return its losses (B,) on the device."""
        batch = batch.to(self.bench.device)
        with self.accelerator.accumulate(self.model):
            logits = self.model(batch.proteins, batch.lengths, batch.pairs).logits
            losses = self.loss.per_pair(logits, batch.labels)
            self.accelerator.backward(share_of_global_mean(losses, batch, self.accelerator))
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return losses.detach()

    def operations(self, batch: PairBatch) -> float:
        """Count a step's operations: a backward pass takes twice as many as a forward pass."""
        return 3 * self.bench.shape().scoring(batch.lengths, batch.pairs)


def measure_peak(bench: Bench) -> float:
    """Measure TFLOP/s of a bf16 product of random matrices, the median of twenty."""
    edge = bench.sizes.matrix
    a, b = (torch.randn(edge, edge, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    taken = [bench.seconds(lambda: a @ b) for _ in range(25)][5:]
    return float(2 * edge**3 / np.median(taken) / TERA)


def distance(found: Tensor, exact: Tensor) -> float:
    """Compute ‖found - exact‖ / ‖exact‖."""
    found, exact = found.detach().double().cpu(), exact.detach().double().cpu()
    return float((found - exact).norm() / exact.norm())


def check_attention(bench: Bench) -> tuple[float, float]:
    """Compare values and gradients of bf16, computed as in a launch, with float32 one by one."""
    layouts = [Layout(lengths, bench.device) for lengths in ((70, 1, 333, 16), (5, 200, 64, 1))]
    links = Links(queries=(0, 1, 1, 2, 3), contexts=(1, 0, 3, 2, 1))
    torch.manual_seed(0)
    width = bench.config.model.d_model // bench.config.model.n_heads
    made = [
        torch.randn(sum(layout.lengths), *shape, device=bench.device).bfloat16()
        for layout, shape in zip(layouts, ((2, width), (2, 2, width)), strict=True)
    ]
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        rows = [x.to(dtype).requires_grad_() for x in made]
        sides = [Ragged(x, layout) for x, layout in zip(rows, layouts, strict=True)]
        read = attend(sides[0], sides[1], links)
        # The same weights for both dtypes, so that the gradients are comparable.
        weights = torch.sin(torch.arange(read.numel(), device=bench.device)).view_as(read)
        gradients = torch.autograd.grad((read.float() * weights).sum(), rows)
        results.append((read, torch.cat([g.flatten() for g in gradients])))
    return distance(results[0][0], results[1][0]), distance(results[0][1], results[1][1])


def check_model(bench: Bench) -> tuple[float, float]:
    """Compare logits and gradients of a whole batch in bf16 and float32, without dropout."""
    results = []
    for precision in ("bf16", "no"):
        training = Training(bench, precision)
        batch = training.batches(1)[0].to(bench.device)
        training.model.train(False)
        logits = training.model(batch.proteins, batch.lengths, batch.pairs).logits
        training.accelerator.backward(training.loss.per_pair(logits, batch.labels).mean())
        given = [p.grad.flatten() for p in training.unwrapped.parameters() if p.grad is not None]
        results.append((logits, torch.cat(given)))
    return distance(results[0][0], results[1][0]), distance(results[0][1], results[1][1])


def check_no_waiting(bench: Bench) -> int:
    """Count the steps during which the host did not wait for the device; raise if it had to."""
    training = Training(bench)
    batches = training.batches(4)
    for batch in batches:
        training.step(batch)
    bench.wait()
    waits = bench.device.type == "cuda"
    if waits:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            training.step(batch)
    finally:
        if waits:
            torch.cuda.set_sync_debug_mode("default")
    return len(batches)


def check_resume(bench: Bench) -> float:
    """Find the largest difference of a loss when steps after a saved state are repeated."""
    training = Training(bench)
    batches = training.batches(4)
    for batch in batches:
        training.step(batch)
    with tempfile.TemporaryDirectory() as folder:
        training.accelerator.save_state(folder)
        first = torch.stack([training.step(batch) for batch in batches])
        training.accelerator.load_state(folder)
        again = torch.stack([training.step(batch) for batch in batches])
    return float((first - again).abs().max())


def check_scoring(bench: Bench) -> float:
    """Measure the distance of logits scored in bf16 from those scored in float32."""
    data = bench.pairs(min(24, bench.sizes.proteins))
    logits = []
    for precision in ("bf16", "no"):
        accelerator = bench.accelerator(precision)
        found = score_pairs(bench.model(), data, ScoringConfig(), accelerator)
        logits.append(torch.from_numpy(found))
    return distance(*logits)


def run_checks(bench: Bench) -> list[Row]:
    """Run every check; return its result and its limit."""
    attention, attention_slopes = check_attention(bench)
    logits, slopes = check_model(bench)
    found = [
        ("attention in bf16: values", attention, 1e-2),
        ("attention in bf16: gradients", attention_slopes, 2e-2),
        ("v3 in bf16: logits", logits, 0.1),
        ("v3 in bf16: gradients", slopes, 0.2),
        ("scoring in bf16: logits", check_scoring(bench), 0.1),
        ("steps after a saved state: losses", check_resume(bench), 2e-2),
        ("steps without waiting", -check_no_waiting(bench), 0),
    ]
    return [{"check": w, "found": f, "limit": most, "passed": f <= most} for w, f, most in found]


def open_bench(quick: bool) -> Bench:
    """Open a bench for the shipped configuration (or a toy version) on this machine's device."""
    toy = [f"model_config.{value}" for value in TOY] + ["training_config.batch_size=4"]
    config = load_config(SHIPPED, "pretrain", toy if quick else [])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(config, QUICK if quick else Sizes(), device)
    width = config.model.d_model // config.model.n_heads
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    bench.report.update(machine(), device=name, date=time.strftime("%Y-%m-%d"))
    bench.report["attention"] = attention_path(device, torch.bfloat16, width)
    bench.report["peak TFLOP/s"] = measure_peak(bench)
    return bench
