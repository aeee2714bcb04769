"""Distillation: mix a trained model's probabilities into the labels for another model's training.

With the label y, the teacher's probability t and the weight w, a pair's label becomes
(1 - w) y + w t (Hinton et al. 2015, at temperature 1). Cross-entropy is linear in the label, so the
loss is the same mixture of the losses against y and against t.

The teacher scores all pairs of an epoch before the first step: each protein is encoded once and not
in every batch, and the scores are the same on any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from common.data.batches import BatchPlanner, PairBatch, PairData
from common.data.embeddings.means import MeanStore
from common.data.embeddings.store import Store
from common.data.splits import Splits
from common.inference.checkpoints import Checkpoint, checksums_of, load_checkpoint
from common.inference.compatibility import (
    check_same_embeddings,
    check_same_language_model,
    warn_if_seen,
)
from common.inference.scoring import probabilities, score_pairs
from common.models.ragged import to_device
from common.run import Run


@dataclass
class Teacher:
    """A trained model that another model learns from.

    Attributes:
        run: The stage's run.
        checkpoint: The teacher, on the accelerator's device.
        store: The embeddings that the teacher reads: the student's, or residues if needed.
        planner: Plans the pairs of every epoch.
    """

    run: Run
    checkpoint: Checkpoint
    store: Store
    planner: BatchPlanner
    _epoch: int = -1
    _taught: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @classmethod
    def open(cls, run: Run, splits: Splits, planner: BatchPlanner) -> Self | None:
        """Load the configured teacher; return None if no teacher is configured.

        Raises:
            UserError: The teacher is damaged, or was trained on other embeddings than this run's.
        """
        named = run.config.training.loss.teacher
        if named is None:
            return None
        checkpoint = load_checkpoint(Path(named))
        check_same_embeddings(checkpoint, run.config)
        check_same_language_model(checkpoint, run.config, splits.store)
        warn_if_seen(run, checkpoint)
        checkpoint.model.to(run.accelerator.device)
        store = splits.store  # A model of means reads residues as well.
        if isinstance(store, MeanStore) and not checkpoint.model.reads_means:
            store = store.source
        run.event("teacher_ready", checkpoint=named, model=checkpoint.config.model.model)
        return cls(run, checkpoint, store, planner)

    @property
    def identity(self) -> str:
        """The checksums of the teacher's files, concatenated."""
        return "".join(checksums_of(self.checkpoint.path).values())

    def teach(self, batch: PairBatch, epoch: int) -> PairBatch:
        """Mix the teacher's probabilities into a batch's labels; every process must call this."""
        weight = self.run.config.training.loss.teacher_weight
        # A stand-in takes the probability of the last pair; its weight is zero.
        taught = to_device(self._probabilities(epoch)[batch.rows], batch.labels.device)
        return replace(batch, labels=(1 - weight) * batch.labels + weight * taught)

    def _probabilities(self, epoch: int) -> NDArray[np.float32]:
        """Return the teacher's probabilities (N,) of an epoch's pairs, recomputed for new pairs."""
        if self.planner.resampling is None:
            epoch = 0
        if epoch != self._epoch:
            data = PairData(self.planner.at(epoch).table, self.store)
            settings, accelerator = self.run.config.evaluate.scoring, self.run.accelerator
            logits = score_pairs(self.checkpoint.model, data, settings, accelerator, "teaching")
            self._epoch, self._taught = epoch, probabilities(logits).astype(np.float32)
        return self._taught
