"""What is judged: the predictions of a model or a file, with their threshold."""

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
    """The predictions that are judged.

    Attributes:
        name: Their name in the table.
        predictions: Their scores.
        threshold: From which score a pair is called an interaction.
        title: What gave the scores, for titles: a model's name, or a file's.
        source: The checkpoint's directory, or the file.
        validation: The model's metrics on its validation pairs, if it is a model.
        calibration: How the model's probabilities are calibrated, if they are.
        notes: Notes on the scores, one sentence each, besides those of `predictions`.
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
        """Say in a few words what was judged, and on which test side."""
        benchmark = side.sets[0].benchmark
        return f"{self.title} on {benchmark.species} {benchmark.strategy}"
