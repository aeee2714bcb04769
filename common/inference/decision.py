"""What training decides about a model, and a checkpoint stores beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.inference.calibration import Calibration


@dataclass(frozen=True)
class Decision:
    """A decision threshold, and the validation metrics of the epoch after which it was chosen.

    Attributes:
        threshold: The lowest probability that is called an interaction.
        mode: The threshold mode that chose it.
        monitor_metric: The metric by which the best epoch is found.
        epoch: The epoch, counted from 1.
        validation: The metrics by name; None where undefined.
        language_model: The hash of the files of the language model that made the embeddings.
        assumed: What the mode assumed of new proteins, by name: their density, or the prevalence.
        calibration: How probabilities are calibrated; None if they are not calibrated.
        calibrated_threshold: The threshold for calibrated probabilities.
    """

    threshold: float
    mode: str
    monitor_metric: str
    epoch: int
    validation: dict[str, float | None]
    language_model: str
    assumed: dict[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    calibrated_threshold: float | None = None
