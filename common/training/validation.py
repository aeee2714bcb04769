"""A model's metrics on the validation pairs, and the decision threshold chosen there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from common.config import Config
from common.config_data import METRIC_NAMES
from common.data.batches import PairData
from common.errors import UserError
from common.inference.checkpoints import Decision
from common.inference.pair_metrics import pair_metrics
from common.inference.scoring import probabilities, score_pairs
from common.inference.thresholds import Evidence, check_classes, mode_of
from common.models import PairModel
from common.training.losses import PairLoss


@dataclass(frozen=True)
class Validation:
    """A model's metrics on the validation pairs, the same on every process."""

    loss: float
    metrics: dict[str, float | None]
    decision: Decision


@dataclass(frozen=True)
class Validator:
    """Scores the validation pairs and chooses the decision threshold."""

    data: PairData
    loss: PairLoss
    config: Config
    accelerator: Accelerator

    def validate(self, model: PairModel, epoch: int) -> Validation:
        """Validate the unwrapped model after `epoch` (counted from 1).

        Raises:
            UserError: A score is not finite.
        """
        wanted, scoring = self.config.evaluate.decision_threshold, self.config.evaluate.scoring
        logits = score_pairs(model, self.data, scoring, self.accelerator, "validation")
        if not np.isfinite(logits).all():
            raise UserError(
                f"after epoch {epoch} the model gives validation pairs scores that are not finite:"
                " training has diverged; lower training_config.optimizer.lr or the scheduler's"
                " max_lr, or launch without fp16"
            )
        labels = self.data.table.labels
        loss = self.loss.mean(torch.from_numpy(logits), torch.from_numpy(labels))
        scores = probabilities(logits)
        threshold = mode_of(wanted).choose(wanted, Evidence(scores, labels))
        monitor = self.config.training.monitor_metric
        measured = {*self.config.training.logging.validation_metrics, monitor}
        names = [name for name in METRIC_NAMES if name in measured]
        metrics = pair_metrics(scores, labels, threshold, names)
        language_model = self.data.store.language_model
        decision = Decision(threshold, wanted.mode, monitor, epoch, metrics, language_model)
        return Validation(loss, metrics, decision)


def check_validation(config: Config, data: PairData) -> None:
    """Reject validation pairs that leave the monitored metric or the threshold undefined.

    Raises:
        UserError: They are of one class only.
    """
    monitor = config.training.monitor_metric
    check_classes(config.evaluate.decision_threshold, data.table.labels)
    if monitor != "loss" and len(np.unique(data.table.labels)) < 2:
        raise UserError(
            "the validation pairs are of one class only, which leaves"
            f" training_config.monitor_metric ({monitor}) undefined; set monitor_metric: loss"
        )
