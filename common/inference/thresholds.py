"""Decision thresholds: from which probability on a pair is called an interaction.

A threshold mode is a `ThresholdMode` in `common.registry.THRESHOLD_MODES`. Training applies the
configured mode after every epoch and stores the threshold and the mode's name with the checkpoint;
evaluation takes the stored threshold, or chooses one if the checkpoint was trained in another mode.

This module does not import torch at its top, so that the scripts can ask a mode what it needs
before the seconds that torch takes to import.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.config import Config, DecisionThresholdConfig
from common.errors import UserError
from common.registry import THRESHOLD_MODES

if TYPE_CHECKING:
    from accelerate import Accelerator

    from common.inference.checkpoints import Checkpoint

SECTION = "evaluate.decision_threshold"


@dataclass(frozen=True)
class Evidence:
    """The evidence from which a mode chooses a threshold.

    Attributes:
        scores: (N,) the model's probabilities of the validation pairs.
        labels: (N,) their labels, 0 or 1.
    """

    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    labels: NDArray[np.generic] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class ThresholdMode:
    """One way to choose the threshold.

    Attributes:
        choose: Gives the threshold.
        keys: The keys of `evaluate.decision_threshold` that it reads, beside `mode`.
        needs_validation: Whether it needs the scored validation pairs; if not, its threshold
            follows from the configuration alone, and `choose` may be given an empty `Evidence`.
        needs_both_classes: Whether the validation pairs must be of both classes.
    """

    choose: Callable[[DecisionThresholdConfig, Evidence], float]
    keys: tuple[str, ...] = ()
    needs_validation: bool = False
    needs_both_classes: bool = False


def mode_of(settings: DecisionThresholdConfig) -> ThresholdMode:
    """The configured mode."""
    mode: ThresholdMode = THRESHOLD_MODES.get(settings.mode)
    return mode


fixed = ThresholdMode(lambda settings, _: settings.as_probability(), keys=("value",))

best_f1_on_valid = ThresholdMode(
    lambda _, evidence: best_f1_threshold(evidence.scores, evidence.labels),
    needs_validation=True,
    needs_both_classes=True,
)


def check_threshold(settings: DecisionThresholdConfig, overridden: Collection[str] = ()) -> None:
    """Reject settings for a model that the configured mode cannot or would not use.

    Args:
        settings: The section `evaluate.decision_threshold`.
        overridden: The full key paths that the command line sets.

    Raises:
        UserError: A key was set that the mode ignores, or its threshold is no probability.
    """
    mode = mode_of(settings)
    for key in DecisionThresholdConfig.model_fields:
        if key not in ("mode", *mode.keys) and f"{SECTION}.{key}" in overridden:
            readers = [n for n in THRESHOLD_MODES.names() if key in THRESHOLD_MODES.get(n).keys]
            raise UserError(
                f"--set {SECTION}.{key} is ignored while the mode is {settings.mode}; set"
                f" {SECTION}.mode={' or '.join(readers)} too"
            )
    if not mode.needs_validation:
        mode.choose(settings, Evidence())


def check_classes(settings: DecisionThresholdConfig, labels: NDArray[np.generic]) -> None:
    """Reject validation pairs of one class if the configured mode needs both.

    Raises:
        UserError: They are of one class only.
    """
    if mode_of(settings).needs_both_classes and len(np.unique(labels)) < 2:
        raise UserError(
            "the validation pairs are of one class only, which leaves the threshold mode"
            f" {settings.mode} undefined; set {SECTION}.mode: fixed"
        )


def decide_threshold(checkpoint: Checkpoint, config: Config, accelerator: Accelerator) -> float:
    """The threshold that a configuration asks for, for a checkpoint; every process must call it.

    A mode that needs no validation pairs uses the configuration. The threshold of another one is
    stored with the checkpoint; if that was trained in another mode, the validation pairs are
    scored now.

    Raises:
        UserError: The mode cannot give a threshold for this configuration and these pairs.
    """
    settings = config.evaluate.decision_threshold
    mode = mode_of(settings)
    if not mode.needs_validation:
        return mode.choose(settings, Evidence())
    if checkpoint.decision.mode == settings.mode:
        return checkpoint.decision.threshold
    # Imported here, because they import torch and transformers, which takes 4 seconds.
    from common.data.splits import open_splits
    from common.inference.scoring import probabilities, score_pairs

    pairs = open_splits(config, ("val",), accelerator).parts["val"]
    check_classes(settings, pairs.table.labels)
    scoring = config.evaluate.scoring
    logits = score_pairs(checkpoint.model, pairs, scoring, accelerator, "validation")
    return mode.choose(settings, Evidence(probabilities(logits), pairs.table.labels))


def call_pairs(probabilities: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which pairs are called interactions.

    The comparison is made in float64: in float32 a threshold that lies between two neighbouring
    scores would be rounded onto one of them.
    """
    return np.asarray(probabilities, dtype=np.float64) >= np.float64(threshold)


def best_f1_threshold(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Find the threshold whose calls have the highest F1.

    The threshold lies midway between the lowest score that is called and the next one below it
    (or zero), so that rounding noise in a score calls no pair differently. Of several best ones
    the highest is taken, which calls the fewest pairs.

    Args:
        probabilities: (N,) scores of the pairs.
        labels: (N,) zeros and ones.

    Raises:
        ValueError: The labels are of one class only, or `check_scores` refuses the input.
    """
    scores, truth = check_scores(probabilities, labels)
    positives = int(truth.sum())
    if positives in (0, truth.size):
        raise ValueError(
            "the best F1 threshold needs both classes,"
            f" not {positives} positive and {truth.size - positives} negative pairs"
        )
    levels, called, hits = _count_calls_by_level(scores, truth)
    # F1 = 2 TP / (2 TP + FP + FN); equal fractions divide to equal floats, so ties are exact.
    best = int(np.argmax(2 * hits / (called + positives)))
    below = levels[best + 1] if best + 1 < levels.size else min(0.0, levels[best])
    return _midway(float(below), float(levels[best]))


def check_scores(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert scores to float64 (N,) and labels to truth values (N,).

    Raises:
        ValueError: Scores that are not finite, labels other than 0 and 1, or lengths that differ.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(labels)
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise ValueError(
            f"probabilities {scores.shape} and labels {truth.shape} must be two equally long lists"
        )
    unusable = int(np.count_nonzero(~np.isfinite(scores)))
    if unusable:
        raise ValueError(
            f"{unusable} of {scores.size} probabilities are not finite numbers (NaN or infinite)"
        )
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    return scores, truth.astype(np.bool_)


def _count_calls_by_level(
    scores: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct scores, falling, and how many pairs and positives lie at or above each."""
    levels, inverse = np.unique(-scores, return_inverse=True)
    called = np.cumsum(np.bincount(inverse, minlength=levels.size))
    hits = np.cumsum(np.bincount(inverse[truth], minlength=levels.size))
    return -levels, called, hits


def _midway(low: float, high: float) -> float:
    """A threshold above `low` and at most `high`: midway, or `high` if they are adjacent floats."""
    middle = low + (high - low) / 2
    return middle if middle > low else high
