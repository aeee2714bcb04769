"""Runs the real stages on as many processes as it is started on, and records what they did.

    accelerate launch --config_file accelerate_configs/cpu_2proc.yaml tests/rank_program.py \
        FOLDER CHECKPOINT OUTPUT

trains every case of `CASES` in the project of a folder, stops on a planted NaN, evaluates a
checkpoint, trains a run for others to be compared with, and at last lets rank 1 fail. Tests call
the same functions on one process. All in one launch: to start two processes takes ten seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.data.batches import STAND_IN, PairBatch
from common.data.embeddings.shards import Embedding
from common.data.embeddings.store import EmbeddingStore
from common.errors import UserError
from common.training import session
from common.training.loop import EpochSteps
from common.training.session import Session
from tests.tiny_benchmark import SPECIES, TinyProject, call_main

# So small a rate leaves the weights where they are: every update of a case can be compared, not
# only the first, after which rounding would grow.
STANDING = ["training_config.optimizer.lr=1e-12", "training_config.max_grad_norm=null"]
MINING = [
    "training_config.epochs=2",
    "data_config.dataloader.sampling.strategy=ohem",
    "data_config.dataloader.sampling.warmup_epochs=1",
    "data_config.dataloader.sampling.pool_multiplier=2",
    "data_config.dataloader.sampling.cap_protein=3",
]
RESAMPLED = ["data_config.dataloader.sampling.negatives.source=resampled"]
ACCUMULATED = ["training_config.gradient_accumulation_steps=3"]

# Own networks of all proteins of the project, by output.
NETWORKS: dict[str, list[str]] = {
    "all.tsv": [],
    "best.graphml": ["--top-k", "3"],
    "dense.mitab": ["--density", "0.1"],
    "cascade.tsv": ["--prefilter", "CHECKPOINT", "--share", "0.1"],
}
# Settings, and the pairs of a global batch. The 75 training pairs leave 11 for a last batch of
# 16, and one for each of the last three rounds of 8 or fewer: one rank then has none.
CASES: dict[str, tuple[list[str], int]] = {
    "plain": (["training_config.epochs=1"], 16),
    "accumulated": (["training_config.epochs=1", *ACCUMULATED], 8),
    "resampled": (["training_config.epochs=1", *RESAMPLED], 16),
    "mined": ([*MINING, "data_config.dataloader.sampling.keep_ratio=0.5"], 16),
    "mined-accumulated": (
        [*MINING, *ACCUMULATED, "data_config.dataloader.sampling.keep_ratio=0.4"],
        4,
    ),
}

# Threshold and metrics on proteins that were set aside, by walks that every rank draws itself.
HELD_OUT = [
    "training_config.epochs=1",
    "data_config.validation={mode: protein_disjoint, fraction: 0.5, walks: 2}",
    "evaluate.decision_threshold.mode=match_density",
]

# Dropout draws from each rank's random state; mining, accumulation and unfreezing all span the
# moments at which the tests cut such a run off.
HARD = [
    "training_config.epochs=3",
    "training_config.gradient_accumulation_steps=2",
    *RESAMPLED,
    "model_config.regularization.dropout=0.2",
    "model_config.regularization.token_dropout=0.1",
    "data_config.dataloader.sampling.strategy=ohem",
    "data_config.dataloader.sampling.pool_multiplier=2",
    "data_config.dataloader.sampling.keep_ratio=0.6",
    "training_config.strategy.type=staged_unfreeze",
    "training_config.strategy.unfreeze_epoch=2",
    "training_config.strategy.initial_trainable_prefixes=[head, cls, cross]",
    "run_config.save_best_only=false",
]


@dataclass
class Recording:
    """What one rank did in one training.

    Attributes:
        drawn: Rows of the pair table in each round, stand-ins left out.
        names: The proteins of each round.
        kept: Those trained on: after mining, where there is any.
        rates: The learning rate of each update.
        gradients: All parameters' gradients at each update.
        stopped: What a refused training said.
        poisoned: The protein whose embedding was not finite.
        date: What the rank's clock said at the end, in seconds.
    """

    drawn: list[list[int]] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    stopped: str = ""
    poisoned: str = ""
    date: float = 0.0

    def note_update(self, optimizer: Optimizer, *arguments: Any) -> None:
        """Called by torch before every optimizer step."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.gradients.append(torch.cat([p.grad.detach().clone().flatten() for p in parameters]))


def record(
    project: TinyProject, name: str, settings: Sequence[str], global_batch: int
) -> list[Recording]:
    """Run pretraining with these settings; every rank's recording, on every rank."""
    recording = Recording()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batch_size = global_batch // processes
    hook = register_optimizer_step_pre_hook(recording.note_update)
    with keep_process_group(), pytest.MonkeyPatch.context() as patch:
        watch_batches(patch, recording)
        patch.setattr(session, "save_chart", touch_figure)
        try:
            call_main(
                project, "pretrain.py", "--set", *STANDING, *settings,
                f"training_config.batch_size={batch_size}",
                f"run_config.pretrain_run_id={name}-{processes}",
            )  # fmt: skip
        except UserError as error:
            recording.stopped = str(error)
    hook.remove()
    recording.date = time.time()
    return [Recording(**content) for content in gather_object([asdict(recording)])]


@contextlib.contextmanager
def keep_process_group() -> Iterator[None]:
    """A stage ends it, but the next one in the same processes needs it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Accelerator, "end_training", lambda accelerator: None)
        yield


def watch_batches(patch: pytest.MonkeyPatch, recording: Recording) -> None:
    """Note every round as it is drawn, and as it is trained on."""
    draw, mine = EpochSteps.__iter__, Session.mine

    def watched_draw(steps: EpochSteps) -> Iterator[PairBatch]:
        for batch in draw(steps):
            recording.drawn.append(real_rows(batch))
            recording.names.append(list(batch.names))
            yield batch

    def watched_mine(session: Session, batch: PairBatch, epoch: int) -> PairBatch:
        kept = mine(session, batch, epoch)
        recording.kept.append(real_rows(kept))
        return kept

    patch.setattr(EpochSteps, "__iter__", watched_draw)
    patch.setattr(Session, "mine", watched_mine)


def real_rows(batch: PairBatch) -> list[int]:
    """The batch's rows without stand-ins."""
    rows: list[int] = batch.rows[batch.rows != STAND_IN].tolist()
    return rows


def choose_victim(ranks: list[Recording]) -> str:
    """A protein that first comes in the second update, and not in that update's last round.

    A look at the last round alone would blame others.
    """
    rounds = [set().union(*shares) for shares in zip(*(rank.names for rank in ranks), strict=True)]
    victims: set[str] = (rounds[3] | rounds[4]) - rounds[5] - set().union(*rounds[:3])
    return min(victims)


def record_poisoned(project: TinyProject, victim: str) -> list[Recording]:
    """`record` the accumulated case with NaN for the embedding of one protein."""
    read = EmbeddingStore.__getitem__

    def poisoned(store: EmbeddingStore, protein: str) -> Embedding:
        states = read(store, protein)
        return np.full_like(states, np.nan) if protein == victim else states

    settings, global_batch = CASES["accumulated"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddingStore, "__getitem__", poisoned)
        # Standardising would spread the NaN to all proteins before the first step.
        settings = [*settings, "model_config.standardize_input=false"]
        ranks = record(project, "poisoned", settings, global_batch)
    return [replace(rank, poisoned=victim) for rank in ranks]


def record_stalling(project: TinyProject) -> list[Recording]:
    """`record` a training that stops early: its weights stand still, so nothing improves."""
    settings, global_batch = CASES["plain"]
    early = ["training_config.epochs=6", "training_config.early_stopping_patience=2"]
    return record(project, "stalling", [*settings[1:], *early], global_batch)


def record_taught(project: TinyProject) -> list[Recording]:
    """`record` a model of means whose teacher reads residues, with new negatives every epoch."""
    teacher = project.output / "models" / "v3" / "pretrain" / "plain-1" / "best_model"
    settings = [
        *CASES["resampled"][0],
        "model_config.model=factorised",
        f"training_config.loss={{teacher: {teacher}, teacher_weight: 0.7}}",
    ]
    return record(project, "taught", settings, 16)


def record_all(project: TinyProject) -> dict[str, list[Recording]]:
    """Every case's recordings by rank, and those of the trainings that stopped before the end."""
    found = {name: record(project, name, *case) for name, case in CASES.items()}
    record(project, "held-out", HELD_OUT, 16)
    poisoned = record_poisoned(project, choose_victim(found["accumulated"]))
    taught = record_taught(project)
    return {**found, "poisoned": poisoned, "stalling": record_stalling(project), "taught": taught}


def evaluate_as(project: TinyProject, checkpoint: Path, run_id: str) -> None:
    """Evaluate a checkpoint under a run id, beside baselines and itself."""
    call_main(
        project, "evaluate.py", "--checkpoint", str(checkpoint), "--set",
        f"run_config.eval_run_id={run_id}", "evaluate.baselines=[random, degree]",
        f"evaluate.baseline_checkpoint={checkpoint}",
    )  # fmt: skip
    for name, given in NETWORKS.items():
        limits = [word.replace("CHECKPOINT", str(checkpoint)) for word in given]
        call_main(
            project, "evaluate.py", "--checkpoint", str(checkpoint), "--fasta",
            str(project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"), "--output",
            str(project.folder / f"{run_id}_{name}"), *limits, "--set",
            "evaluate.scoring.tile_residues=400", config=False,
        )  # fmt: skip


def train_hard(project: TinyProject, run_id: str, *settings: str, resume: bool = False) -> None:
    """A whole pretraining with everything that a resumed run has to bring back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "save_chart", touch_figure)
        call_main(
            project, "pretrain.py", *(["--resume"] if resume else []), "--set", *HARD, *settings,
            f"run_config.pretrain_run_id={run_id}",
        )  # fmt: skip


def touch_figure(chart: object, subject: str, path: Path) -> None:
    """In place of drawing, which takes nine tenths of the time."""
    path.touch()


def fail_on_rank_1(project: TinyProject) -> None:
    """A pretraining in which rank 1 breaks in its third round, by a bug rather than a mistake.

    It has no run id, so that rank 0 names it by its clock.
    """
    mine = Session.mine
    calls: list[int] = []

    def broken(session: Session, batch: PairBatch, epoch: int) -> PairBatch:
        calls.append(epoch)
        if len(calls) == 3 and session.run.accelerator.process_index == 1:
            raise RuntimeError("planted on rank 1")
        return mine(session, batch, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "mine", broken)
        call_main(project, "pretrain.py")


def main() -> None:
    """Do on several processes what the tests do on one; end with a failure."""
    folder, checkpoint, output = map(Path, sys.argv[1:])
    project = TinyProject(folder, folder / "config.yaml")
    found = record_all(project)
    if os.environ["RANK"] == "0":
        torch.save({name: [asdict(r) for r in ranks] for name, ranks in found.items()}, output)
    with keep_process_group():
        evaluate_as(project, checkpoint, "on_two")
        train_hard(project, "whole", "training_config.batch_size=4")
    fail_on_rank_1(project)


if __name__ == "__main__":
    main()
