"""The predictions to evaluate, of a model or from a file, with the decision threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.inference.calibration import Calibration
from common.inference.thresholds import Threshold


@dataclass(frozen=True, eq=False)
class Scored:
    """The predictions to evaluate, with their threshold, names and source.

    Attributes:
        name: The name of the predictions in tables.
        predictions: The scored pairs.
        threshold: The lowest score of a predicted interaction, and how it was chosen.
        title: The name of the model or of the prediction file, for titles.
        source: The checkpoint's folder, or the prediction file.
        validation: The model's metrics on its validation pairs; empty for a prediction file.
        calibration: The calibration of the model's probabilities, if any.
        notes: Sentences about the scores, in addition to the notes of `predictions`.
    """

    name: str
    predictions: Predictions
    threshold: Threshold
    title: str
    source: Path
    validation: Mapping[str, float | None] = field(default_factory=dict)
    calibration: Calibration | None = None
    notes: Sequence[str] = ()

    def subject(self, side: TestSide) -> str:
        """Return the names of the evaluated model or file and of the test data, for titles."""
        benchmark = side.sets[0].benchmark
        return f"{self.title} on {benchmark.species} {benchmark.strategy}"
