"""Create the optimizer and the learning-rate schedule, and freeze parameters for some epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from accelerate.optimizer import AcceleratedOptimizer
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from common.config import (
    Config,
    OptimizerConfig,
    SchedulerConfig,
    Stage,
    StrategyConfig,
    TrainingConfig,
)
from common.data.batches import BatchPlanner
from common.errors import UserError
from common.inference.compiling import compile_rows
from common.models import PairModel
from common.run import Run


def build_optimizer(model: nn.Module, settings: OptimizerConfig) -> AdamW:
    """Create AdamW, with weight decay on all parameters except biases, norms and the CLS token."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    spared = [p for p in model.parameters() if p.dim() != 2]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        # One kernel for all parameters instead of several per parameter.
        fused=True,
    )


def build_scheduler(optimizer: AdamW, settings: TrainingConfig, updates: int) -> LRScheduler:
    """Create the learning-rate schedule for `updates` optimizer updates.

    The schedule is not handed to accelerate: a prepared schedule steps once per process, so on two
    processes it would run past its end. The loop steps it once per update instead.
    """
    schedule: SchedulerConfig = settings.scheduler
    if schedule.type == "constant":
        return LambdaLR(optimizer, _one)
    warmup = schedule.pct_start
    if warmup * updates == 1:
        # Torch would divide by the number of steps from the first update to the peak, here 0.
        # With a slightly smaller share, the first update is the peak.
        warmup *= 1 - 1e-9
    return OneCycleLR(
        optimizer,
        max_lr=schedule.max_lr or settings.optimizer.lr,
        total_steps=updates,
        pct_start=warmup,
        div_factor=schedule.div_factor,
        final_div_factor=schedule.final_div_factor,
        anneal_strategy=schedule.anneal_strategy,
        # beta1 keeps its configured value throughout.
        cycle_momentum=False,
    )


def _one(update: int) -> float:
    return 1.0


def current_lr(scheduler: LRScheduler) -> float:
    """Return the learning rate that the next update will use."""
    return float(scheduler.get_last_lr()[0])


class Learner(NamedTuple):
    """A model with what changes its weights.

    Attributes:
        model: The model as accelerate wrapped it.
        optimizer: The optimizer as accelerate wrapped it.
        scheduler: The learning-rate schedule.
        updates: How many updates all epochs together have.
        compiled: How many of the model's methods were compiled.
    """

    model: nn.Module
    optimizer: AcceleratedOptimizer
    scheduler: LRScheduler
    updates: int
    compiled: int

    @classmethod
    def of(cls, model: PairModel, run: Run, planner: BatchPlanner) -> Self:
        """Move a model to the device, compile it if the launcher asks for it, and wrap it."""
        accelerator, training = run.accelerator, run.config.training
        model.to(accelerator.device)
        compiled = compile_rows(model, accelerator)
        optimizer = build_optimizer(model, training.optimizer)
        updates = sum(planner.updates(epoch) for epoch in range(training.epochs))
        scheduler = build_scheduler(optimizer, training, updates)
        wrapped, prepared = accelerator.prepare(model, optimizer)
        return cls(wrapped, prepared, scheduler, updates, compiled)


@dataclass(frozen=True)
class StagedUnfreezing:
    """The parameters that stay frozen until `unfreeze_epoch`.

    Frozen parameters keep `requires_grad` but lose their gradients before each update: DDP
    fixes its set of parameters when it wraps the model and would never synchronise those that
    join later. AdamW skips parameters without a gradient and starts their moments when they join;
    the schedule is not affected.
    """

    frozen: tuple[nn.Parameter, ...]
    unfreeze_epoch: int

    @classmethod
    def from_settings(cls, model: nn.Module, settings: StrategyConfig) -> StagedUnfreezing:
        """Freeze all parameters without a configured prefix, or none with the strategy `none`.

        Raises:
            UserError: A prefix names no parameter of the model.
        """
        if settings.type == "none":
            return cls((), 0)
        prefixes = settings.initial_trainable_prefixes
        names = [name for name, _ in model.named_parameters()]
        _check_prefixes(prefixes, names)
        frozen = [p for name, p in model.named_parameters() if not name.startswith(prefixes)]
        return cls(tuple(frozen), settings.unfreeze_epoch)

    def drop_frozen_gradients(self, epoch: int) -> None:
        """Drop the gradients of the parameters that are frozen in this epoch (counted from 0)."""
        if epoch < self.unfreeze_epoch:
            for parameter in self.frozen:
                parameter.grad = None

    def trainable(self, model: nn.Module, epoch: int) -> int:
        """Count the trainable parameters in this epoch."""
        every = sum(p.numel() for p in model.parameters())
        return every - sum(p.numel() for p in self.frozen) * (epoch < self.unfreeze_epoch)


def verify_strategies(model: nn.Module, stages: Mapping[Stage, Config]) -> None:
    """Reject unknown parameter prefixes of every stage, before any work starts.

    Raises:
        UserError: A stage's prefix names no parameter of the model.
    """
    for stage, config in stages.items():
        try:
            StagedUnfreezing.from_settings(model, config.training.strategy)
        except UserError as error:
            raise UserError(f"for {stage}, {error}") from None


def _check_prefixes(prefixes: Sequence[str], names: Sequence[str]) -> None:
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({name.partition(".")[0] for name in names})
            raise UserError(
                "training_config.strategy.initial_trainable_prefixes: no parameter's name starts"
                f" with '{prefix}'; choose from the model's parts: {', '.join(parts)}"
            )
