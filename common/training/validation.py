"""Compute a model's metrics on the validation pairs, and choose its decision threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from common.config import Config
from common.config_data import METRIC_NAMES
from common.csv_log import Cell
from common.data.batches import PairData
from common.errors import UserError
from common.inference.calibration import calibrate
from common.inference.decision import Decision
from common.inference.pair_metrics import Metrics, pair_metrics
from common.inference.partial_scores import Scores
from common.inference.scoring import probabilities, score_pairs
from common.inference.thresholds import check_classes, mode_of
from common.inference.validation_pairs import ValidationPairs
from common.models import PairModel
from common.training.losses import PairLoss

BENCHMARK = "benchmark"  # the set of the benchmark's own validation pairs


@dataclass(frozen=True)
class Measured:
    """A model's loss and metrics on a set of pairs; an undefined metric is None."""

    pairs: int
    loss: float
    metrics: Metrics

    @classmethod
    def mean(cls, sets: Sequence[Measured]) -> Measured:
        """Average over equally weighted sets; average each metric over the sets that define it."""
        found = {name: [each.metrics[name] for each in sets] for name in sets[0].metrics}
        defined = {name: [v for v in values if v is not None] for name, values in found.items()}
        metrics = {name: float(np.mean(v)) if v else None for name, v in defined.items()}
        loss = float(np.mean([each.loss for each in sets]))
        return cls(sum(each.pairs for each in sets), loss, metrics)


@dataclass(frozen=True)
class Validation:
    """A model's metrics on the monitored validation pairs, the same on every process.

    Attributes:
        loss: The loss; the mean over the sets if there are several.
        metrics: The metrics by name, averaged like the loss; None where undefined.
        decision: The threshold, chosen on the pairs of all sets.
        sets: The results by name, if held-out proteins are monitored: for each set of these
            proteins, for the mean over the sets, and for the benchmark's own pairs.
    """

    loss: float
    metrics: Metrics
    decision: Decision
    sets: Mapping[str, Measured] = field(default_factory=dict)

    def records(self) -> list[dict[str, Cell]]:
        """Return the epoch's rows of `validation.csv`, with the requested metrics only."""
        epoch = self.decision.epoch
        return [
            {"epoch": epoch, "set": name, "pairs": each.pairs, "loss": each.loss, **each.metrics}
            for name, each in self.sets.items()
        ]


@dataclass(frozen=True)
class Validator:
    """Scores the validation pairs and chooses the decision threshold."""

    pairs: ValidationPairs
    loss: PairLoss
    config: Config
    accelerator: Accelerator

    def validate(self, model: PairModel, epoch: int) -> Validation:
        """Compute the unwrapped model's loss, metrics and threshold after `epoch` (from 1).

        Raises:
            UserError: A score is not finite.
        """
        wanted, data = self.config.evaluate.decision_threshold, self.pairs.monitored
        score = partial(self._score, model, epoch)
        logits, labels = score(data), data.table.labels
        evidence = self.pairs.evidence(logits, score)
        choice = mode_of(wanted).choose(wanted, evidence)
        threshold = choice.threshold
        ends = np.cumsum(self.pairs.counts)[:-1]
        parts = zip(np.split(logits, ends), np.split(labels, ends), strict=True)
        sets = {f"walk_{i}": self._measure(*part, threshold) for i, part in enumerate(parts, 1)}
        mean = Measured.mean(list(sets.values()))
        if self.pairs.benchmark is None:
            sets = {}
        else:
            own = self.pairs.benchmark
            measured = self._measure(score(own), own.table.labels, threshold)
            sets |= {"mean": mean, BENCHMARK: measured}
        monitor = self.config.training.monitor_metric
        language_model = data.store.language_model
        calibration = calibrate(self.config, evidence)
        decision = Decision(
            threshold,
            wanted.mode,
            monitor,
            epoch,
            mean.metrics,
            language_model,
            choice.assumed,
            calibration,
            None if calibration is None else float(calibration.apply(threshold)),
        )
        return Validation(mean.loss, mean.metrics, decision, sets)

    def _score(self, model: PairModel, epoch: int, data: PairData) -> Scores:
        scoring = self.config.evaluate.scoring
        logits = score_pairs(model, data, scoring, self.accelerator, "validation")
        if not np.isfinite(logits).all():
            raise UserError(
                f"training has diverged: after epoch {epoch} the scores of validation pairs are not"
                " finite; lower training_config.optimizer.lr or training_config.scheduler.max_lr,"
                " or launch without fp16"
            )
        return logits

    def _measure(self, logits: Scores, labels: NDArray[np.int8], threshold: float) -> Measured:
        training = self.config.training
        measured = {*training.logging.validation_metrics, training.monitor_metric}
        names = [name for name in METRIC_NAMES if name in measured]
        loss = self.loss.mean(torch.from_numpy(logits), torch.from_numpy(labels))
        metrics = pair_metrics(probabilities(logits), labels, threshold, names)
        return Measured(len(labels), loss, metrics)


def check_validation(config: Config, data: PairData) -> None:
    """Reject validation pairs that leave the monitored metric or the threshold undefined.

    Raises:
        UserError: The pairs are of one class only.
    """
    monitor = config.training.monitor_metric
    check_classes(config.evaluate, data.table.labels)
    if monitor != "loss" and len(np.unique(data.table.labels)) < 2:
        raise UserError(
            "the validation pairs are of one class only, so training_config.monitor_metric"
            f" ({monitor}) is undefined; set training_config.monitor_metric: loss"
        )
