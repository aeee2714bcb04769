"""Connect the parts of a training stage: model, optimizer, batches, mining and validation.

`prepare_session` builds and connects the parts, and restores them when resuming. The loop itself
is in the scripts; `Session.record` and `Session.save` end an epoch, `Session.finish` a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from torch.optim.lr_scheduler import LRScheduler

from common.csv_log import TRAINING_CSV, EpochRow, write_training_csv, write_validation_csv
from common.data.batches import BatchPlanner, PairBatch
from common.data.pair_hashes import TrainedOn
from common.data.splits import Splits
from common.errors import UserError
from common.inference.checkpoints import BEST_MODEL, Checkpoint, save_model
from common.inference.validation_pairs import ValidationPairs
from common.launch import Agreement
from common.memory import explain_out_of_memory
from common.models import PairModel
from common.pausing import PAUSE, Paused
from common.plotting import save_chart
from common.run import Run
from common.training.loop import EpochRecord, EpochSteps, FiniteCheck
from common.training.losses import PairLoss
from common.training.ohem import Miner
from common.training.optimization import Learner, StagedUnfreezing
from common.training.progress import Progress
from common.training.resume import digest_data, load_state, save_state
from common.training.teacher import Teacher
from common.training.trackers import start_trackers, track_epoch
from common.training.validation import (
    BENCHMARK,
    Validation,
    Validator,
    check_validation,
)
from common.training_curves import chart_training

TRAINING_PLOT = "training_curves.png"
VALIDATION_CSV = "validation.csv"


@dataclass(frozen=True)
class Session:
    """A training stage: its connected parts, and the actions of the training loop.

    Attributes:
        run: The stage's run.
        model: The model as accelerate wrapped it, for the training step.
        unwrapped: The same model unwrapped, for everything without gradients.
        optimizer: The optimizer as accelerate wrapped it.
        scheduler: The learning-rate schedule, which the loop steps once per update.
        planner: Plans the pairs of each round.
        miner: Chooses the hardest pairs of a pool.
        loss: The loss of pairs, in training and validation.
        validator: Gives metrics and threshold after each epoch.
        unfreezing: The parameters that stay frozen at first.
        finite: Stops the run before an optimizer step if a loss or gradient is not finite.
        agreement: Lets the ranks pause after the same update.
        progress: How far the stage has come.
        trained_on: The hashes of all pairs that the model is trained on, also before this stage,
            and of their proteins, for its checkpoints; None if those of an earlier stage are not
            known.
        notes: Notes on the data for the readers of the model card.
        teacher: The model whose probabilities are mixed into the labels, if there is one.
    """

    run: Run
    model: torch.nn.Module
    unwrapped: PairModel
    optimizer: AcceleratedOptimizer
    scheduler: LRScheduler
    planner: BatchPlanner
    miner: Miner
    loss: PairLoss
    validator: Validator
    unfreezing: StagedUnfreezing
    finite: FiniteCheck
    agreement: Agreement
    progress: Progress
    trained_on: TrainedOn | None
    notes: Mapping[str, object]
    teacher: Teacher | None = None

    def begin(self, learner: Learner) -> None:
        """Save the configuration, start the trackers and log the start of the stage."""
        self.run.begin()
        start_trackers(self.run, self.progress.epoch + 1)
        self.run.event(
            "stage_start",
            epochs=self.run.config.training.epochs,
            first_epoch=self.progress.epoch + 1,
            updates=learner.updates,
            trainable=self.unfreezing.trainable(self.unwrapped, self.progress.epoch),
            **({"compiled": learner.compiled} if learner.compiled else {}),
        )

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs, counted from 0, until the last one or an early stop."""
        training = self.run.config.training
        self.unwrapped.train()
        with PAUSE.until_asked():
            while self.progress.epoch < training.epochs:
                if self.progress.stalled(training.early_stopping_patience):
                    self.run.event(
                        "early_stop", epoch=self.progress.epoch, best_epoch=self.progress.best_epoch
                    )
                    return
                yield self.progress.epoch

    def steps(self, epoch: int) -> tuple[EpochSteps, EpochRecord]:
        """Return an epoch's remaining batches on this rank, and a record for their losses."""
        part = self.progress.part
        first = part.rounds if part else 0
        steps = EpochSteps(self.run, self.planner, self.unwrapped, self.finite, epoch, first)
        return steps, EpochRecord(self.run, epoch, len(steps), part)

    @contextmanager
    def step(self, batch: PairBatch) -> Iterator[None]:
        """Run a training step in this block, with gradients accumulated as configured.

        Raises:
            UserError: The step ran out of memory.
        """
        task = f"training on {len(batch.pairs)} pairs"
        remedy = (
            "lower training_config.batch_size (and raise gradient_accumulation_steps as much),"
            " data_config.max_sequence_length or, with OHEM, sampling.pool_multiplier"
        )
        with (
            explain_out_of_memory(task, batch.lengths, remedy),
            self.run.accelerator.accumulate(self.model),
        ):
            yield

    def pause_if_asked(self, record: EpochRecord) -> None:
        """Save the state and stop after an update, if any rank has received a signal.

        Raises:
            Paused: The state has been saved, with the progress within the epoch.
        """
        if not self.run.accelerator.sync_gradients:
            return
        if self.agreement.any(PAUSE.heard is not None):
            self.finite.settle()
            self.progress.part = record.to_part()
            self._save_state()
            where = f"in epoch {record.epoch + 1} after step {record.step}/{record.steps}"
            signal = PAUSE.heard or "the signal of another process"
            raise Paused(f"{where} on {signal}; resume it with --resume (run id {self.run.run_id})")

    def mine(self, batch: PairBatch, epoch: int) -> PairBatch:
        """Choose the pairs of a round to train on: all of them, or the hardest of a pool."""
        if not self.planner.mines(epoch):
            return batch
        return self.miner.mine(self.unwrapped, batch, self.planner.at(epoch).table)

    def teach(self, batch: PairBatch, epoch: int) -> PairBatch:
        """Mix the teacher's probabilities into the labels of a round, if there is a teacher."""
        return batch if self.teacher is None else self.teacher.teach(batch, epoch)

    def record(self, row: EpochRow) -> bool:
        """Record and log an epoch; return whether the epoch is the best so far."""
        logged = self.run.config.training.logging.validation_metrics
        improved = self.progress.note_epoch(row, self.run.config.training.monitor_metric)
        others = [each for each in row.sets if each["set"] == BENCHMARK]
        self.run.event(
            "epoch_complete",
            epoch=row.epoch,
            seconds=row.seconds,
            train_loss=row.train_loss,
            val_loss=row.val_loss,
            **{f"val_{name}": row.val_metrics[name] for name in logged},
            **{f"benchmark_val_{name}": each[name] for each in others for name in logged},
            lr=row.learning_rate,
            pairs_per_second=row.pairs_per_second,
        )
        track_epoch(self.run, row)
        return improved

    def save(self, validation: Validation, improved: bool) -> None:
        """Save the model if it is the best so far, the CSV files, and the state for resuming."""
        epoch = validation.decision.epoch
        if improved:
            path = self._save_model(validation)
            decision, metric = validation.decision, self.run.config.training.monitor_metric
            chosen = {"threshold": decision.threshold, "threshold_mode": decision.mode}
            self.run.event("best_saved", epoch=epoch, metric=metric, **chosen, path=path)
        if not self.run.config.run.save_best_only:
            self._save_model(validation, name=f"epoch_{epoch:03d}")
        self.write_curves()
        self._save_state()

    def _save_model(self, validation: Validation, name: str = BEST_MODEL) -> Path:
        decision, trained_on = validation.decision, self.trained_on
        return save_model(self.run, self.unwrapped, decision, name, trained_on, self.notes)

    def _save_state(self) -> None:
        self.progress.scheduler = self.scheduler.state_dict()
        save_state(self.run, asdict(self.progress))

    def write_curves(self) -> Path:
        """Write the CSV files and the plot of all epochs so far, on rank 0."""
        path = self.run.log_dir / TRAINING_CSV
        if self.run.accelerator.is_main_process:
            config = self.run.config
            metrics, benchmark = config.training.logging.validation_metrics, config.data.benchmark
            write_training_csv(path, self.progress.rows, metrics)
            write_validation_csv(self.run.log_dir / VALIDATION_CSV, self.progress.rows, metrics)
            title = f"{config.model.model}, {benchmark.species} {benchmark.split_strategy}"
            chart = chart_training(self.progress.rows, metrics)
            save_chart(chart, title, self.run.log_dir / TRAINING_PLOT)
        return path

    def finish(self) -> Path:
        """Write the CSV files, log the end of the stage, and return the best model's directory.

        Raises:
            UserError: The monitored metric was undefined in every epoch.
        """
        if not self.progress.best_epoch:
            raise UserError(
                "no epoch had a finite"
                f" training_config.monitor_metric ({self.run.config.training.monitor_metric});"
                " lower the learning rate, or monitor another metric"
            )
        path = self.write_curves()
        best = self.run.model_dir / BEST_MODEL
        self.run.event("csv_written", path=path, rows=len(self.progress.rows))
        self.run.event("stage_complete", best_epoch=self.progress.best_epoch, checkpoint=best)
        return best


def prepare_session(
    run: Run, model: PairModel, splits: Splits, origin: Checkpoint | None = None
) -> Session:
    """Connect the parts of a stage around a model, and restore the last state when resuming.

    Args:
        run: The stage's run.
        model: The model, fresh or with the weights of `origin`.
        splits: The data that it is trained and validated on.
        origin: The checkpoint that is trained further.

    Raises:
        UserError: The validation pairs leave the monitored metric or the threshold undefined, or
            the run cannot be resumed.
    """
    config, accelerator = run.config, run.accelerator
    train, pairs = splits.parts["train"], ValidationPairs.of(splits, config)
    check_validation(config, pairs.monitored)
    planner = BatchPlanner.from_settings(
        train,
        config.data.dataloader,
        config.training,
        accelerator.num_processes,
        config.run.seed,
        splits.known,
    )
    unfreezing = StagedUnfreezing.from_settings(model, config.training.strategy)
    learner = Learner.of(model, run, planner)
    loss = PairLoss(config.training.loss)
    # Each rank has different dropout. Seeded here, because embedding (which depends on the cache)
    # may have drawn random numbers before.
    set_seed(config.run.seed, device_specific=True)
    teacher = Teacher.open(run, splits, planner)
    data = digest_data(splits.parts, splits.known) + (teacher.identity if teacher else "")
    session = Session(
        run=run,
        model=learner.model,
        unwrapped=model,
        optimizer=learner.optimizer,
        scheduler=learner.scheduler,
        planner=planner,
        miner=Miner(config.data.dataloader.sampling, loss, accelerator),
        loss=loss,
        validator=Validator(pairs, loss, config, accelerator),
        unfreezing=unfreezing,
        finite=FiniteCheck(
            accelerator, learner.optimizer.optimizer, accelerator.device.type == "cuda"
        ),
        agreement=Agreement(accelerator),
        progress=open_progress(run, learner.scheduler, data),
        trained_on=list_training_pairs(splits, origin, teacher.checkpoint if teacher else None),
        notes=splits.notes,
        teacher=teacher,
    )
    session.begin(learner)
    return session


def list_training_pairs(splits: Splits, *earlier: Checkpoint | None) -> TrainedOn | None:
    """Hash the training pairs of this stage and of earlier models; None if some are not known."""
    found = TrainedOn.of(splits.parts["train"].table)
    for origin in filter(None, earlier):
        if origin.trained_on is None:
            return None
        found = found.join(origin.trained_on)
    return found


def open_progress(run: Run, scheduler: LRScheduler, data: str) -> Progress:
    """Return the progress of a stage; when resuming, load its saved state in place.

    Args:
        run: The run of the stage; a state has its weights, its optimizer and its random states.
        scheduler: The stage's learning-rate schedule.
        data: A digest of the data that the stage trains and validates on.

    Raises:
        UserError: The state cannot be resumed, or the training data have changed.
    """
    content = load_state(run) if run.resuming else None
    if content is None:
        if run.resuming:
            run.warn("nothing_to_resume", reason="no state was saved yet: the stage starts over")
        return Progress(data=data)
    progress = Progress.from_dict(content)
    if progress.data != data:
        raise UserError(
            f"cannot resume {run.log_dir}: the pairs, the proteins, the language model or the"
            " teacher have changed since the run was started; restore"
            " data_config.benchmark.root_dir, data_config.embeddings.model_name and"
            " training_config.loss.teacher, or start a new run"
        )
    scheduler.load_state_dict(progress.scheduler)
    return progress
