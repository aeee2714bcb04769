"""The mechanics of an epoch's loop, which itself stands in the scripts: one call each there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from common.csv_log import EpochRow
from common.data.batches import (
    BatchPlanner,
    PairBatch,
    RankBatches,
    Rows,
    load_batches,
)
from common.errors import UserError
from common.models.base import PairModel
from common.run import Run
from common.training.progress import EpochPart
from common.training.validation import Validation

# A round's losses (B,), pairs (B, 2) and the names of its proteins.
Round = tuple[Tensor, Rows, tuple[str, ...]]


@dataclass(frozen=True)
class EpochSteps:
    """One epoch's batches on this rank, under a progress bar.

    Attributes:
        run: The stage.
        planner: Which pairs each round has.
        model: The unwrapped model, which knows what it pads.
        finite: Is asked for its last verdict when the steps are done.
        epoch: Counted from 0.
        first: The round to begin with: not 0 in an epoch that was paused.
    """

    run: Run
    planner: BatchPlanner
    model: PairModel
    finite: FiniteCheck
    epoch: int
    first: int = 0

    def __len__(self) -> int:
        return self.planner.updates(self.epoch) * self.planner.accumulation

    def __iter__(self) -> Iterator[PairBatch]:
        accelerator, settings = self.run.accelerator, self.run.config.data.dataloader
        processes = accelerator.num_processes
        rounds = self.planner.rounds(self.epoch)
        self.run.event(
            "epoch_start",
            epoch=self.epoch + 1,
            epochs=self.run.config.training.epochs,
            steps=len(rounds),
            pairs=sum(map(len, rounds)),
            mining=self.planner.mines(self.epoch),
            padding=round(padding_share(self.model, self.planner, rounds, processes), 4),
            **({"steps_done": self.first} if self.first else {}),
        )
        batches = RankBatches(self.planner.data, rounds, accelerator.process_index, processes)
        shown = None if accelerator.is_main_process else True
        name = f"epoch {self.epoch + 1}"
        for batch in tqdm(
            load_batches(batches, settings, self.first),
            initial=self.first,
            total=len(rounds),
            desc=name,
            leave=False,
            disable=shown,
        ):
            yield batch.to(accelerator.device)
        self.finite.settle()


def padding_share(
    model: PairModel, planner: BatchPlanner, rounds: Sequence[Rows], processes: int
) -> float:
    """The share of the rows that a model encodes in these rounds which are no residues."""
    data = planner.data
    padded = residues = 0
    for rows in rounds:
        for rank in range(min(processes, len(rows))):
            proteins = np.unique(data.table.pairs[rows[rank::processes]])
            lengths = data.protein_lengths[proteins]
            padded += model.padding(lengths)
            residues += int(lengths.sum())
    return padded / (padded + residues)


@dataclass
class EpochRecord:
    """Adds up an epoch's loss on the device, and logs a step now and then.

    The first step is logged, every N-th, and the last; only those make the host wait for the
    device. `part` is what is known of an epoch that was paused.
    """

    run: Run
    epoch: int
    steps: int
    part: EpochPart | None = None
    lr: float = 0.0
    step: int = 0
    started: float = field(default_factory=time.perf_counter)
    sums: Tensor = field(init=False)

    def __post_init__(self) -> None:
        device = self.run.accelerator.device
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        if self.part is not None:
            self.step, self.lr = self.part.rounds, self.part.lr
            self.started -= self.part.seconds
            own = self.part.sums[self.run.accelerator.process_index]
            self.sums = torch.tensor(own, dtype=torch.float64, device=device)

    def note(self, losses: Tensor, weights: Tensor, lr: float) -> None:
        """Count a step: losses (B,) at their weights (B,), made at a learning rate."""
        with torch.no_grad():
            added = torch.stack([(losses * weights).sum(), weights.sum()]).double()
            self.sums += added
        self.step += 1
        self.lr = lr
        every = self.run.config.training.logging.heartbeat_every_n_steps
        if self.step in (1, self.steps) or self.step % every == 0:
            loss, count = added.tolist()
            self.run.event(
                "step",
                epoch=self.epoch + 1,
                step=f"{self.step}/{self.steps}",
                loss=loss / count if count else math.nan,
                lr=lr,
                steps_per_second=self.step / max(self.seconds, 1e-9),
            )

    def to_part(self) -> EpochPart:
        """What to resume the epoch from; every process must ask."""
        sums = gather_object([self.sums.tolist()])
        return EpochPart(self.step, self.seconds, self.lr, sums)

    @property
    def seconds(self) -> float:
        """Wall time since the epoch began."""
        return time.perf_counter() - self.started

    def row(self, train_loss: float, validation: Validation) -> EpochRow:
        """The epoch's line of the CSV."""
        return EpochRow(
            epoch=self.epoch + 1,
            seconds=self.seconds,
            train_loss=train_loss,
            val_loss=validation.loss,
            val_metrics=validation.metrics,
            learning_rate=self.lr,
        )

    def mean_loss(self) -> float:
        """The mean over all pairs of all processes; every process must ask."""
        loss, count = self.run.accelerator.reduce(self.sums, reduction="sum").tolist()
        return float(loss / count) if count else math.nan


@dataclass(frozen=True)
class _Question:
    """Whether an update was finite, asked of a device that has not got there yet."""

    wrong: Tensor
    arrived: torch.cuda.Event | None
    rounds: list[Round]

    def answer(self) -> bool:
        """Whether it was not; waits for the device if need be."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return bool(self.wrong)


@dataclass
class FiniteCheck:
    """Stops every rank before the optimizer step if a loss or gradient is not finite.

    The gradients are synchronised, so their norm is the same on all ranks and all come to the same
    verdict without asking each other. Under float16, where the loss scaler skips steps whose
    gradients overflow, it is the losses that must be finite.

    A host that waited for each verdict would leave its GPU without work meanwhile. There
    (`deferred`) the fused optimizer itself leaves the weights alone where the verdict is bad, and
    the host hears of it one update later, before the next step.

    Attributes:
        accelerator: The processes and the precision.
        optimizer: Fused, where deferred.
        deferred: Whether to hear the verdict one update later.
        rounds: Those since the last update: with accumulation any of them may be the cause.
    """

    accelerator: Accelerator
    optimizer: Optimizer
    deferred: bool = False
    rounds: list[Round] = field(default_factory=list)
    _open: _Question | None = None

    def note(self, losses: Tensor, batch: PairBatch) -> None:
        """Remember a round's losses (B,) and proteins until the update."""
        self.rounds.append((losses.detach(), batch.pairs, batch.names))

    def verify(self, norm: Tensor) -> None:
        """Let the update pass, or stop.

        Args:
            norm: Of the update's gradients, a scalar.

        Raises:
            UserError: Names the proteins of the pairs that caused it, or caused it in the update
                before.
        """
        rounds, self.rounds = self.rounds, []
        self.settle()
        self._open = self._ask(self._judge(norm, rounds), rounds)
        if not self.deferred:
            self.settle()

    def settle(self) -> None:
        """Hear the verdict on the last update.

        Raises:
            UserError: It is bad.
        """
        question, self._open = self._open, None
        if question is not None and question.answer():
            self._refuse(question.rounds)

    def _judge(self, norm: Tensor, rounds: list[Round]) -> Tensor:
        """Whether the update is wrong, a truth value on the device, the same on all ranks."""
        if not self._scales:
            return ~torch.isfinite(norm)
        # Scaled gradients overflow now and then, and the scaler skips the step; a loss must not.
        losses = torch.stack([(~torch.isfinite(losses)).any() for losses, _, _ in rounds])
        total: Tensor = self.accelerator.reduce(losses.any().float(), reduction="sum")
        return total > 0

    @property
    def _scales(self) -> bool:
        return str(self.accelerator.mixed_precision) == "fp16"

    def _ask(self, wrong: Tensor, rounds: list[Round]) -> _Question:
        if not self.deferred:
            return _Question(wrong, None, rounds)
        if not self._scales:
            # The way by which gradient scalers tell fused optimizers to skip a step.
            self.optimizer.found_inf = wrong.float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        if not wrong.is_cuda:
            return _Question(wrong, None, rounds)
        told = torch.empty((), dtype=torch.bool, pin_memory=True)
        told.copy_(wrong, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return _Question(told, arrived, rounds)

    def _refuse(self, rounds: list[Round]) -> NoReturn:
        # With finite losses it is the gradients that overflowed; any pair may be the cause.
        guilty = gather_object(_names_not_finite(rounds))
        names = sorted(set(guilty or gather_object([n for *_, names in rounds for n in names])))
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise UserError(
            f"the loss or its gradient is not finite in a batch of the proteins {shown}; lower"
            " training_config.optimizer.lr or scheduler.max_lr, set training_config.max_grad_norm,"
            " or look at these proteins' embeddings"
        )


def _names_not_finite(rounds: list[Round]) -> list[str]:
    """The proteins of the pairs whose loss is not finite."""
    return [
        names[row]
        for losses, pairs, names in rounds
        for row in pairs[~torch.isfinite(losses).cpu().numpy()].ravel().tolist()
    ]
