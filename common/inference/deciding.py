"""Determine a checkpoint's threshold and calibration as the present configuration asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from accelerate import Accelerator

from common.config import Config
from common.config_file import keys_of
from common.data.batches import PairData
from common.data.splits import open_splits
from common.errors import UserError
from common.inference.calibration import Calibration, calibrate
from common.inference.checkpoints import Checkpoint
from common.inference.partial_scores import Scores
from common.inference.scoring import score_pairs
from common.inference.thresholds import (
    SECTION,
    Evidence,
    Threshold,
    check_classes,
    mode_of,
    needs_network,
)
from common.inference.validation_pairs import ValidationPairs

# The settings that give the location of a benchmark, and those that identify the benchmark.
_PLACES = ("root_dir", "functional_dir", "cache_dir", "download", "download_url")
_IDENTITY = ("name", "species", "split_strategy")


@dataclass(frozen=True, eq=False)
class Decider:
    """Determines a checkpoint's threshold and calibration as configured.

    Every process must request the same values.

    Threshold and calibration are stored with the checkpoint. Where training chose them in another
    way, the validation pairs are scored when they are first needed, once. The held-out proteins are
    always those of the checkpoint's training, whatever the configuration says about validation.
    """

    checkpoint: Checkpoint
    config: Config
    accelerator: Accelerator

    @cached_property
    def threshold(self) -> Threshold:
        """The threshold; a mode that needs no validation pairs uses the configuration alone.

        Raises:
            UserError: The mode cannot give a threshold for this configuration and these pairs.
        """
        settings = self.config.evaluate.decision_threshold
        mode = mode_of(settings)
        if mode.needs_validation and _is_stored(self.checkpoint, self.config):
            return Threshold(self.checkpoint.decision.threshold, settings.mode)
        evidence = self._evidence if mode.needs_validation else Evidence()
        return Threshold(mode.choose(settings, evidence).threshold, settings.mode)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration, if one is configured; a configured prevalence replaces the stored one.

        Raises:
            UserError: The validation pairs are of one class, or no proteins are held out.
        """
        evaluate, stored = self.config.evaluate, self.checkpoint.decision.calibration
        if evaluate.calibration == "none":
            return None
        if stored is not None and evaluate.prevalence != "auto":
            return replace(stored, prevalence=evaluate.prevalence)
        if stored is not None and self.checkpoint.config.evaluate.prevalence == "auto":
            return stored
        return calibrate(self.config, self._evidence)

    @cached_property
    def _evidence(self) -> Evidence:
        """The scored validation pairs of the run that trained the checkpoint.

        Raises:
            UserError: The pairs are of one class, or held-out proteins are needed but absent.
        """
        trained = configure_as_trained(self.checkpoint.config, self.config)
        splits = open_splits(trained, ("val",), self.accelerator, needs_network(self.config))
        pairs = ValidationPairs.of(splits, trained)
        check_classes(self.config.evaluate, pairs.monitored.table.labels)
        return pairs.evidence(self._score(pairs.monitored), self._score)

    def _score(self, data: PairData) -> Scores:
        model, scoring = self.checkpoint.model, self.config.evaluate.scoring
        return score_pairs(model, data, scoring, self.accelerator, "validation")


def choose_calibration(checkpoint: Checkpoint, config: Config) -> Calibration | None:
    """Return the calibration for the user's own pairs, if the configuration asks for one.

    Raises:
        UserError: The checkpoint has no calibration.
    """
    evaluate, stored = config.evaluate, checkpoint.decision.calibration
    if evaluate.calibration == "none":
        return None
    if stored is None:
        raise UserError(
            f"{checkpoint.path} was trained with evaluate.calibration: none, so it has no"
            " temperature for your pairs; leave evaluate.calibration out, or train again with"
            f" evaluate.calibration: {evaluate.calibration}"
        )
    given = evaluate.prevalence
    return stored if given == "auto" else replace(stored, prevalence=given)


def describe_calibration(calibration: Calibration | None) -> dict[str, float]:
    """Return the fields of the event `model_ready` that describe a calibration."""
    if calibration is None:
        return {}
    return {"temperature": calibration.temperature, "prevalence": calibration.prevalence}


def choose_threshold(
    checkpoint: Checkpoint,
    config: Config,
    overrides: Sequence[str],
    calibration: Calibration | None = None,
) -> float:
    """Return the threshold that `--set` gives, or else the checkpoint's threshold.

    `--set` can give a value, or a mode that needs no validation pairs. With a calibration, the
    threshold applies to calibrated probabilities: a given threshold is used unchanged, and the
    checkpoint's threshold is converted, so that the same pairs are called interactions.
    """
    wanted = config.evaluate.decision_threshold
    given = {key for key in keys_of(overrides) if key.startswith(f"{SECTION}.")}
    configured = not mode_of(wanted).needs_validation
    if f"{SECTION}.value" in given or (given and configured):
        return wanted.as_probability()
    return move_threshold(checkpoint, calibration)


def move_threshold(checkpoint: Checkpoint, calibration: Calibration | None) -> float:
    """Convert the checkpoint's threshold to a threshold for calibrated probabilities."""
    threshold = checkpoint.decision.threshold
    return threshold if calibration is None else float(calibration.apply(threshold))


def configure_as_trained(trained: Config, config: Config) -> Config:
    """Return the configuration with the validation pairs and held-out proteins of a training run.

    Args:
        trained: The configuration of the training run.
        config: The present configuration, which says where the files are.
    """
    data = config.data.model_copy(update={"validation": trained.data.validation})
    if trained.data.validation.mode == "benchmark" and not needs_network(config):
        return config.model_copy(update={"data": data})
    before, now = trained.data.benchmark, config.data.benchmark
    if all(getattr(before, key) == getattr(now, key) for key in _IDENTITY):
        before = before.model_copy(update={key: getattr(now, key) for key in _PLACES})
    own = {"benchmark": before, "interactions": trained.data.interactions}
    run = config.run.model_copy(update={"seed": trained.run.seed})
    return config.model_copy(update={"data": data.model_copy(update=own), "run": run})


def _is_stored(checkpoint: Checkpoint, config: Config) -> bool:
    """Return whether training chose the checkpoint's threshold as this configuration asks."""
    before, now = (_request(each) for each in (checkpoint.config, config))
    chosen = checkpoint.decision.mode == config.evaluate.decision_threshold.mode
    return chosen and before == now


def _request(config: Config) -> list[object]:
    """List the settings on which the threshold depends in this mode."""
    evaluate, settings = config.evaluate, config.evaluate.decision_threshold
    mode = mode_of(settings)
    network = [evaluate.prevalence, evaluate.strategies] if mode.needs_network else []
    return [getattr(settings, key) for key in mode.keys] + network
