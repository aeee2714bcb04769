"""Helpers for the training loop, which itself is in pretrain.py and finetune.py."""

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
from common.data.batches import BatchPlanner, PairBatch, PairData, RankBatches, Rows
from common.data.loading import load_batches
from common.errors import UserError
from common.memory import FreedMemory
from common.models.base import PairModel
from common.run import Run
from common.training.progress import EpochPart
from common.training.validation import Validation

# A round's losses (B,), pairs (B, 2) and the names of its proteins.
Round = tuple[Tensor, Rows, tuple[str, ...]]


@dataclass(frozen=True)
class EpochSteps:
    """The batches of an epoch on this rank, which are iterated over with a progress bar.

    Attributes:
        run: The stage's run.
        planner: Plans the pairs of each round.
        model: The unwrapped model, which knows how much it pads.
        finite: Checks the last update when the steps are done.
        epoch: Counted from 0.
        first: The first remaining round; not 0 in an epoch that was paused.
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
        data, rounds = self.planner.at(self.epoch), self.planner.rounds(self.epoch)
        self.run.event(
            "epoch_start",
            epoch=self.epoch + 1,
            epochs=self.run.config.training.epochs,
            steps=len(rounds),
            pairs=sum(map(len, rounds)),
            mining=self.planner.mines(self.epoch),
            padding=round(padding_share(self.model, data, rounds, processes), 4),
            **({"steps_done": self.first} if self.first else {}),
        )
        batches = RankBatches(data, rounds, accelerator.process_index, processes)
        shown = None if accelerator.is_main_process else True
        loaded = load_batches(batches, settings, self.first)
        name, bar = f"epoch {self.epoch + 1}", {"leave": False, "disable": shown}
        freed = FreedMemory()
        for batch in tqdm(loaded, initial=self.first, total=len(rounds), desc=name, **bar):
            yield batch.to(accelerator.device)
            if accelerator.device.type == "cpu":
                freed.give_back()
        self.finite.settle()


def padding_share(
    model: PairModel, data: PairData, rounds: Sequence[Rows], processes: int
) -> float:
    """Compute the fraction of padding among the rows that a model encodes in these rounds."""
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
    """Sums an epoch's loss on the device, and logs the first, every N-th and the last step.

    Only the logged steps make the host wait for the device. `part` describes an epoch that was
    paused.
    """

    run: Run
    epoch: int
    steps: int
    part: EpochPart | None = None
    lr: float = 0.0
    step: int = 0
    pairs_per_second: float | None = None
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
        """Record a step, given its losses (B,), their weights (B,) and its learning rate."""
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
        """Return the progress within the epoch, for resuming; every process must call this."""
        sums = gather_object([self.sums.tolist()])
        return EpochPart(self.step, self.seconds, self.lr, sums)

    @property
    def seconds(self) -> float:
        """Wall time since the epoch began."""
        return time.perf_counter() - self.started

    def row(self, train_loss: float, validation: Validation) -> EpochRow:
        """Return the epoch's row of the CSV file."""
        return EpochRow(
            epoch=self.epoch + 1,
            seconds=self.seconds,
            train_loss=train_loss,
            val_loss=validation.loss,
            val_metrics=validation.metrics,
            learning_rate=self.lr,
            sets=validation.records(),
            pairs_per_second=self.pairs_per_second,
        )

    def mean_loss(self) -> float:
        """Return the mean loss of all processes' pairs; every process must call this.

        This call ends the epoch's training, so it also records the pairs per second.
        """
        loss, count = self.run.accelerator.reduce(self.sums, reduction="sum").tolist()
        self.pairs_per_second = count / max(self.seconds, 1e-9)
        return float(loss / count) if count else math.nan


@dataclass
class FiniteCheck:
    """Stops every rank before the optimizer step if a loss or gradient is not finite.

    The gradients are synchronised, so their norm is the same on all ranks, and all ranks reach the
    same verdict without communicating. Under float16, where the loss scaler skips steps whose
    gradients overflow, the losses must be finite instead.

    A host that waited for each verdict would leave its GPU idle meanwhile. On a GPU (`deferred`)
    the fused optimizer therefore skips a bad update by itself, and the host reads the verdict one
    update later, before the next step.

    Attributes:
        accelerator: The processes and the precision.
        optimizer: The optimizer, which must be fused if deferred.
        deferred: Whether to read the verdict one update later.
        rounds: The rounds since the last update: with accumulation any of them may be the cause.
        pending: The last update's verdict, the event of its arrival, and the update's rounds.
    """

    accelerator: Accelerator
    optimizer: Optimizer
    deferred: bool = False
    rounds: list[Round] = field(default_factory=list)
    pending: tuple[Tensor, torch.cuda.Event | None, list[Round]] | None = None

    def note(self, losses: Tensor, batch: PairBatch) -> None:
        """Store a round's losses (B,) and proteins until the next update is checked."""
        self.rounds.append((losses.detach(), batch.pairs, batch.names))

    def verify(self, norm: Tensor) -> None:
        """Check that an update is finite, and stop the run if it is not.

        Args:
            norm: The norm of the update's gradients, a scalar.

        Raises:
            UserError: A loss or gradient is not finite, in this update or, if deferred, in the last
                one; the message names the proteins of the pairs that caused it.
        """
        rounds, self.rounds = self.rounds, []
        self.settle()
        self.pending = (*self._send(self._judge(norm, rounds)), rounds)
        if not self.deferred:
            self.settle()

    def settle(self) -> None:
        """Stop the run if the last update was not finite, waiting for the device if necessary.

        Raises:
            UserError: The update was not finite.
        """
        if self.pending is None:
            return
        (wrong, arrived, rounds), self.pending = self.pending, None
        if arrived is not None:
            arrived.synchronize()
        if wrong:
            self._refuse(rounds)

    def _judge(self, norm: Tensor, rounds: list[Round]) -> Tensor:
        """Return whether an update is not finite, as a device boolean, equal on all ranks."""
        if not self._scales:
            return ~torch.isfinite(norm)
        # Scaled gradients overflow at times, and the scaler skips the step; a loss must be finite.
        losses = torch.stack([(~torch.isfinite(losses)).any() for losses, _, _ in rounds])
        total: Tensor = self.accelerator.reduce(losses.any().float(), reduction="sum")
        return total > 0

    @property
    def _scales(self) -> bool:
        return str(self.accelerator.mixed_precision) == "fp16"

    def _send(self, wrong: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """Send a check's result to the optimizer and the host; return it with its arrival event."""
        if self.deferred and not self._scales:
            # How gradient scalers make fused optimizers skip a step.
            self.optimizer.found_inf = wrong.float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        if not (self.deferred and wrong.is_cuda):
            return wrong, None
        on_host = torch.empty((), dtype=torch.bool, pin_memory=True)
        on_host.copy_(wrong, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return on_host, arrived

    def _refuse(self, rounds: list[Round]) -> NoReturn:
        # If the losses are finite, the gradients overflowed, and any pair may be the cause.
        guilty = gather_object(_names_not_finite(rounds))
        names = sorted(set(guilty or gather_object([n for *_, names in rounds for n in names])))
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise UserError(
            f"the loss or its gradient is not finite in a batch with the proteins {shown}; lower"
            " training_config.optimizer.lr or scheduler.max_lr, set training_config.max_grad_norm,"
            " or check these proteins' embeddings"
        )


def _names_not_finite(rounds: list[Round]) -> list[str]:
    """Name the proteins of the pairs whose loss is not finite."""
    return [
        names[row]
        for losses, pairs, names in rounds
        for row in pairs[~torch.isfinite(losses).cpu().numpy()].ravel().tolist()
    ]
