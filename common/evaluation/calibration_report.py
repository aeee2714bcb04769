"""Measure the calibration of a model's probabilities on test pairs, with and without correction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.inference.calibration import BINS, Calibration, measure_calibration, shift_prior

CALIBRATION_FILE = "calibration.json"

Measures = Mapping[str, float]


@dataclass(frozen=True)
class CalibrationReport:
    """Measures of how well probabilities are calibrated on the configured species' test pairs.

    Attributes:
        calibration: The calibration that was applied.
        share: The fraction of the test pairs that interact.
        at: The results of `measure_calibration` by prevalence (that of the calibration and that of
            the test pairs) and by kind of probability: `uncalibrated`, `prevalence_only` (corrected
            for the prevalence only) and `calibrated`.
    """

    calibration: Calibration
    share: float
    at: Mapping[float, Mapping[str, Measures]]

    @classmethod
    def of(
        cls, probabilities: NDArray[np.float64], labels: NDArray[np.int8], applied: Calibration
    ) -> CalibrationReport:
        """Measure the calibration of probabilities (N,) on labelled pairs, with both labels."""
        share = float(labels.mean())
        at = {
            prevalence: {
                name: measure_calibration(values, labels, prevalence)
                for name, values in (
                    ("uncalibrated", probabilities),
                    (
                        "prevalence_only",
                        shift_prior(probabilities, applied.validation_share, prevalence),
                    ),
                    ("calibrated", applied.apply_at(probabilities, prevalence)),
                )
            }
            for prevalence in (applied.prevalence, share)
        }
        return cls(applied, share, at)

    def describe(self) -> dict[str, Any]:
        """Return the calibration and its measures as the content of `calibration.json`."""
        names = ("at_the_prevalence", "at_the_test_pairs_own_prevalence")
        pairs = zip(names, (self.calibration.prevalence, self.share), strict=True)
        return {
            **asdict(self.calibration),
            "bins": BINS,
            **{name: {"prevalence": value, **self.at[value]} for name, value in pairs},
        }

    def sentence(self) -> str:
        """Describe in one sentence how the calibration changes the measures."""
        prevalence = self.calibration.prevalence
        return (
            f"Calibration with the temperature {self.calibration.temperature:.3g}: at a"
            f" prevalence of {prevalence:.3g}, {self._compare(prevalence)}; at the test pairs' own"
            f" prevalence, {self.share:.3g}, {self._compare(self.share)}."
        )

    def _compare(self, prevalence: float) -> str:
        before, after = (self.at[prevalence][name] for name in ("uncalibrated", "calibrated"))
        return (
            f"the expected calibration error is {after['ece']:.3g} instead of {before['ece']:.3g}"
            f" and the Brier score {after['brier']:.3g} instead of {before['brier']:.3g}"
        )


def report_calibration(
    side: TestSide, predictions: Predictions, calibration: Calibration | None
) -> CalibrationReport | None:
    """Measure the calibration, or return None if no calibration or only one test label exists."""
    if calibration is None or "pairs" not in side.tasks:
        return None
    table = side.sets[0].table
    if len(np.unique(table.labels)) < 2:
        return None
    scores = predictions.scores_of(table.proteins, table.pairs)
    return CalibrationReport.of(scores, table.labels, calibration)
