"""A model's figures on the validation pairs, and the decision threshold chosen there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator

from common.config import METRIC_NAMES, Config, EvaluateConfig
from common.data.batches import PairData
from common.data.splits import open_splits
from common.errors import UserError
from common.inference.checkpoints import Checkpoint, Decision
from common.inference.pair_metrics import best_f1_threshold, pair_metrics
from common.inference.scoring import probabilities, score_pairs
from common.models import PairModel
from common.training.losses import PairLoss


@dataclass(frozen=True)
class Validation:
    """A model's figures on the validation pairs, the same on every process."""

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
        settings: EvaluateConfig = self.config.evaluate
        logits = score_pairs(model, self.data, settings.scoring, self.accelerator, "validation")
        if not np.isfinite(logits).all():
            raise UserError(
                f"after epoch {epoch} the model gives validation pairs scores that are not finite:"
                " training has diverged; lower training_config.optimizer.lr or the scheduler's"
                " max_lr, or launch without fp16"
            )
        labels = self.data.table.labels
        loss = self.loss.mean(torch.from_numpy(logits), torch.from_numpy(labels))
        scores = probabilities(logits)
        threshold = settings.decision_threshold.value
        if settings.decision_threshold.mode == "best_f1_on_valid":
            threshold = best_f1_threshold(scores, labels)
        monitor = self.config.training.monitor_metric
        wanted = {*self.config.training.logging.validation_metrics, monitor}
        metrics = pair_metrics(scores, labels, threshold, [n for n in METRIC_NAMES if n in wanted])
        mode, language_model = settings.decision_threshold.mode, self.data.store.language_model
        decision = Decision(threshold, mode, monitor, epoch, metrics, language_model)
        return Validation(loss, metrics, decision)


def decide_threshold(checkpoint: Checkpoint, config: Config, accelerator: Accelerator) -> float:
    """The threshold that a configuration asks for, for a checkpoint.

    A fixed one is the configuration's own. The best on the validation pairs was stored with the
    checkpoint, or is found now if it was trained under another mode.

    Raises:
        UserError: The validation pairs are of one class only, or the fixed one is no probability.
    """
    wanted = config.evaluate.decision_threshold
    if wanted.mode == "fixed":
        return wanted.as_probability()
    if checkpoint.decision.mode == wanted.mode:
        return checkpoint.decision.threshold
    validation = open_splits(config, ("val",), accelerator).parts["val"]
    check_validation(config, validation)
    validator = Validator(validation, PairLoss(config.training.loss), config, accelerator)
    return validator.validate(checkpoint.model, checkpoint.decision.epoch).decision.threshold


def check_validation(config: Config, data: PairData) -> None:
    """Refuse to monitor what the validation pairs leave undefined.

    Raises:
        UserError: They are of one class only.
    """
    monitor = config.training.monitor_metric
    one_class = len(np.unique(data.table.labels)) < 2
    if one_class and (
        monitor != "loss" or config.evaluate.decision_threshold.mode == "best_f1_on_valid"
    ):
        raise UserError(
            "the validation pairs are of one class only, which leaves"
            f" training_config.monitor_metric ({monitor}) or best_f1_on_valid undefined; set"
            " monitor_metric: loss and evaluate.decision_threshold.mode: fixed"
        )
