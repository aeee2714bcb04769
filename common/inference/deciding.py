"""The threshold that a configuration asks for, for a checkpoint trained in any mode."""

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

# Where a benchmark is, not which one it is.
_PLACES = ("root_dir", "functional_dir", "cache_dir", "download", "download_url")
_IDENTITY = ("name", "species", "split_strategy")


def decide_threshold(checkpoint: Checkpoint, config: Config, accelerator: Accelerator) -> float:
    """The threshold that a configuration asks for, for a checkpoint; every process must call it.

    A mode that needs no validation pairs uses the configuration. The threshold of another one is
    stored with the checkpoint; if training chose it otherwise, the validation pairs are scored
    now. The proteins that the checkpoint's training held out are its own, whatever the
    configuration says of validation.

    Raises:
        UserError: The mode cannot give a threshold for this configuration and these pairs.
    """
    settings = config.evaluate.decision_threshold
    mode = mode_of(settings)
    if not mode.needs_validation:
        return mode.choose(settings, Evidence()).threshold
    if _is_stored(checkpoint, config):
        return checkpoint.decision.threshold
    trained = configure_as_trained(checkpoint.config, config)
    splits = open_splits(trained, ("val",), accelerator, mode.needs_network)
    pairs, sample = splits.monitored, draw_sample(trained, splits.held_out)
    check_classes(settings, pairs.table.labels)

    def score(data: PairData) -> NDArray[np.float64]:
        scoring = config.evaluate.scoring
        logits = score_pairs(checkpoint.model, data, scoring, accelerator, "validation")
        return probabilities(logits)

    prevalence = assume_prevalence(trained, splits.held_out)
    evidence = Evidence(score(pairs), pairs.table.labels, prevalence)
    if sample is not None:
        scores = score(PairData(sample.table, splits.store))
        evidence = replace(evidence, sample=sample, sample_scores=scores)
    return mode.choose(settings, evidence).threshold


def choose_threshold(checkpoint: Checkpoint, config: Config, overrides: Sequence[str]) -> float:
    """The checkpoint's threshold, unless `--set` gives one or a mode without validation pairs."""
    wanted = config.evaluate.decision_threshold
    given = {key for key in keys_of(overrides) if key.startswith(f"{SECTION}.")}
    configured = not mode_of(wanted).needs_validation
    if f"{SECTION}.value" in given or (given and configured):
        return wanted.as_probability()
    return checkpoint.decision.threshold


def configure_as_trained(trained: Config, config: Config) -> Config:
    """A configuration with the validation pairs and held-out proteins of another one's training.

    Args:
        trained: That of the training.
        config: That of now, which says where files are.
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
    """Whether training chose the checkpoint's threshold as the configuration asks for it."""
    before, now = (_request(each) for each in (checkpoint.config, config))
    chosen = checkpoint.decision.mode == config.evaluate.decision_threshold.mode
    return chosen and before == now


def _request(config: Config) -> list[object]:
    """What the threshold of the configured mode follows from, beside the model and its data."""
    evaluate, settings = config.evaluate, config.evaluate.decision_threshold
    mode = mode_of(settings)
    network = [evaluate.prevalence, evaluate.strategies] if mode.needs_network else []
    return [getattr(settings, key) for key in mode.keys] + network
