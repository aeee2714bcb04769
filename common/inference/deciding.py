"""Determine a checkpoint's threshold and calibration as the present configuration asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from common.config import Config
from common.config_file import keys_of
from common.data.batches import PairData
from common.data.splits import open_splits
from common.errors import UserError
from common.inference.calibration import Calibration, calibrate
from common.inference.checkpoints import Checkpoint
from common.inference.scoring import probabilities, score_pairs
from common.inference.thresholds import (
    SECTION,
    Evidence,
    assume_prevalence,
    check_classes,
    draw_sample,
    mode_of,
    needs_network,
)

# The settings that give the location of a benchmark, and those that identify the benchmark.
_PLACES = ("root_dir", "functional_dir", "cache_dir", "download", "download_url")
_IDENTITY = ("name", "species", "split_strategy")


def decide_threshold(checkpoint: Checkpoint, config: Config, accelerator: Accelerator) -> float:
    """Determine a checkpoint's threshold as configured; every process must call this.

    A mode that needs no validation pairs uses the configuration alone. The threshold of any other
    mode is stored with the checkpoint; if training chose it in another way, the validation pairs
    are scored now. The held-out proteins are always those of the checkpoint's training, whatever
    the configuration says about validation.

    Raises:
        UserError: The mode cannot give a threshold for this configuration and these pairs.
    """
    settings = config.evaluate.decision_threshold
    mode = mode_of(settings)
    if not mode.needs_validation:
        return mode.choose(settings, Evidence()).threshold
    if _is_stored(checkpoint, config):
        return checkpoint.decision.threshold
    return mode.choose(settings, gather_evidence(checkpoint, config, accelerator)).threshold


def decide_calibration(
    checkpoint: Checkpoint, config: Config, accelerator: Accelerator
) -> Calibration | None:
    """Determine a checkpoint's calibration as configured; every process must call this.

    Like the threshold, the calibration is stored with the checkpoint, or fitted now. A configured
    prevalence replaces the stored one.

    Raises:
        UserError: The validation pairs are of one class, or no proteins are held out.
    """
    evaluate, stored = config.evaluate, checkpoint.decision.calibration
    if evaluate.calibration == "none":
        return None
    if stored is not None and evaluate.prevalence != "auto":
        return replace(stored, prevalence=evaluate.prevalence)
    if stored is not None and checkpoint.config.evaluate.prevalence == "auto":
        return stored
    return calibrate(config, gather_evidence(checkpoint, config, accelerator))


def gather_evidence(checkpoint: Checkpoint, config: Config, accelerator: Accelerator) -> Evidence:
    """Score the validation pairs of the run that trained the checkpoint, on every process.

    Raises:
        UserError: The pairs are of one class, or held-out proteins are needed but there are none.
    """
    trained = configure_as_trained(checkpoint.config, config)
    splits = open_splits(trained, ("val",), accelerator, needs_network(config))
    pairs, sample = splits.monitored, draw_sample(trained, splits.held_out)
    check_classes(config.evaluate, pairs.table.labels)

    def score(data: PairData) -> NDArray[np.float64]:
        scoring = config.evaluate.scoring
        logits = score_pairs(checkpoint.model, data, scoring, accelerator, "validation")
        return probabilities(logits)

    prevalence = assume_prevalence(trained, splits.held_out)
    evidence = Evidence(score(pairs), pairs.table.labels, prevalence)
    if sample is not None:
        scores = score(PairData(sample.table, splits.store))
        evidence = replace(evidence, sample=sample, sample_scores=scores)
    return evidence


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
