"""How good a model's probabilities of the test pairs are, before and after their calibration."""

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
    """The measures of `measure_calibration` on the configured species' test pairs.

    Attributes:
        calibration: The calibration that was applied.
        share: The share of the test pairs that interact.
        at: The measures at two prevalences (the calibration's and the test pairs' own), each of the
            model's own probabilities, of these corrected for the prevalence only, and of the
            calibrated ones.
    """

    calibration: Calibration
    share: float
    at: Mapping[float, Mapping[str, Measures]]

    @classmethod
    def of(
        cls, probabilities: NDArray[np.float64], labels: NDArray[np.int8], applied: Calibration
    ) -> CalibrationReport:
        """Measure the probabilities (N,) of labelled pairs, which must be of both classes."""
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
        """Return the content of `calibration.json`."""
        names = ("at_the_prevalence", "at_the_test_pairs_own_prevalence")
        pairs = zip(names, (self.calibration.prevalence, self.share), strict=True)
        return {
            **asdict(self.calibration),
            "bins": BINS,
            **{name: {"prevalence": value, **self.at[value]} for name, value in pairs},
        }

    def sentence(self) -> str:
        """Say what the calibration changes, for the console."""
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
    """Report on the calibration, if there is one and test pairs of both classes are judged."""
    if calibration is None or "pairs" not in side.tasks:
        return None
    table = side.sets[0].table
    if len(np.unique(table.labels)) < 2:
        return None
    scores = predictions.scores_of(table.proteins, table.pairs)
    return CalibrationReport.of(scores, table.labels, calibration)
