"""Choose the decision threshold, the lowest probability of a pair that is called an interaction.

A threshold mode is a `ThresholdMode` in `common.registry.THRESHOLD_MODES`, each in a separate file
of this folder. Training applies the configured mode after every epoch and stores the threshold and
the mode's name with the checkpoint; evaluation uses the stored threshold, or chooses a threshold if
the checkpoint was trained in another mode (`common.inference.deciding`).

This module does not import torch at its top, so that the scripts can ask a mode what it needs
without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.config import Config, DecisionThresholdConfig, EvaluateConfig
from common.errors import UserError
from common.registry import THRESHOLD_MODES

if TYPE_CHECKING:
    from common.data.held_out import HeldOut
    from common.data.network_sample import NetworkSample

SECTION = "evaluate.decision_threshold"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The scored validation pairs and further data from which a mode chooses a threshold.

    Attributes:
        scores: (N,) the model's probabilities of the monitored validation pairs, of all their sets.
        labels: (N,) the labels of these pairs, 0 or 1.
        prevalence: The fraction of pairs of new proteins that interact (`evaluate.prevalence`);
            None if it is to be computed and no proteins are held out.
        sample: Pairs that represent the network of held-out proteins, for a mode that draws them.
        sample_scores: (M,) the model's probabilities of the pairs of `sample`.
    """

    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    labels: NDArray[np.generic] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    prevalence: float | None = None
    sample: NetworkSample | None = None
    sample_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Choice:
    """A chosen threshold, and the numbers that it assumes for new proteins, such as a density."""

    threshold: float
    assumed: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Threshold:
    """The score from which a pair is called an interaction, and the mode that chose it."""

    value: float
    mode: str = "fixed"


@dataclass(frozen=True)
class ThresholdMode:
    """A method of choosing the threshold, and the data that this method needs.

    Attributes:
        choose: Chooses the threshold.
        keys: The keys of `evaluate.decision_threshold` that the mode reads, besides `mode`.
        needs_validation: Whether the mode needs the scored validation pairs; if not, the threshold
            follows from the configuration alone, and `choose` may be given an empty `Evidence`.
        needs_both_classes: Whether the validation pairs must be of both classes.
        needs_network: Whether the mode needs the network of proteins that no training pair
            contains.
        sample: Draws the pairs of these proteins that must be scored, if any.
        meaning: A description of the threshold for people who do not know the mode.
    """

    choose: Callable[[DecisionThresholdConfig, Evidence], Choice]
    keys: tuple[str, ...] = ()
    needs_validation: bool = False
    needs_both_classes: bool = False
    needs_network: bool = False
    sample: Callable[[Config, HeldOut], NetworkSample] | None = None
    meaning: str = "a mode without a description"


def mode_of(settings: DecisionThresholdConfig) -> ThresholdMode:
    """Return the configured threshold mode."""
    mode: ThresholdMode = THRESHOLD_MODES.get(settings.mode)
    return mode


def needs_network(config: Config) -> str:
    """Return the setting that needs the network of held-out proteins, or "" if none needs it."""
    evaluate = config.evaluate
    if mode_of(evaluate.decision_threshold).needs_network:
        return f"{SECTION}.mode: {evaluate.decision_threshold.mode}"
    if evaluate.calibration != "none" and evaluate.prevalence == "auto":
        return f"evaluate.calibration: {evaluate.calibration} (with evaluate.prevalence: auto)"
    return ""


def draw_sample(config: Config, held_out: HeldOut | None) -> NetworkSample | None:
    """Draw the pairs of held-out proteins whose scores the configured mode needs, if any."""
    draw = mode_of(config.evaluate.decision_threshold).sample
    return draw(config, held_out) if draw is not None and held_out is not None else None


def assume_prevalence(config: Config, held_out: HeldOut | None) -> float | None:
    """Return the configured prevalence, or for `auto` the prevalence among held-out proteins."""
    configured = config.evaluate.prevalence
    if configured != "auto":
        return configured
    return None if held_out is None else held_out.prevalence


def check_threshold(settings: DecisionThresholdConfig, overridden: Collection[str] = ()) -> None:
    """Reject settings that the configured mode would ignore or cannot apply to a model.

    Args:
        settings: The section `evaluate.decision_threshold`.
        overridden: The full key paths that the command line sets.

    Raises:
        UserError: A key was set that the mode ignores, or the threshold is not a probability.
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


def check_classes(evaluate: EvaluateConfig, labels: NDArray[np.generic]) -> None:
    """Reject validation pairs of one class if the threshold or calibration needs both classes.

    Raises:
        UserError: The pairs are of one class only.
    """
    if len(np.unique(labels)) == 2:
        return
    settings = evaluate.decision_threshold
    if mode_of(settings).needs_both_classes:
        raise UserError(
            "the validation pairs are of one class only, but the threshold mode"
            f" {settings.mode} needs both classes; set {SECTION}.mode: fixed"
        )
    if evaluate.calibration != "none":
        raise UserError(
            "the validation pairs are of one class only, but fitting the temperature needs both"
            " classes; set evaluate.calibration: none"
        )


def call_pairs(probabilities: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Decide which pairs are called interactions.

    The comparison is made in float64: in float32 a threshold that lies between two neighbouring
    scores would be rounded onto one of them.
    """
    return np.asarray(probabilities, dtype=np.float64) >= np.float64(threshold)


def check_scores(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Convert scores to float64 (N,) and labels to booleans (N,), after checking both.

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
