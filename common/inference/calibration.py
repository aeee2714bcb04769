"""Calibrate probabilities, so that one in five pairs with the probability 0.2 interacts.

A model's own probabilities suit its validation pairs, half of which interact, and they are usually
overconfident. Two steps turn them into probabilities for all pairs of new proteins:

    p = sigmoid(z / T + logit(prevalence) - logit(fraction of positives in the validation pairs))

where z is the model's logit. The temperature T minimises the log loss on the validation pairs (Guo
et al. 2017, "On calibration of modern neural networks"); the second step corrects the prior in
log-odds (Elkan 2001; Saerens et al. 2002). Both keep the order of the pairs, so rankings do not
change, and neither do the called pairs if the threshold is converted in the same way.

The quality of probabilities is measured by the expected calibration error, the log loss and the
Brier score, with weights that give the positives the assumed prevalence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Field
from scipy.special import expit, logit

from common.config import Config
from common.inference.thresholds import Evidence

BINS = 15  # as in Guo et al. (2017)
COLDEST, HOTTEST = 0.01, 100.0  # bounds, as no temperature is the best for uninformative scores

Values = NDArray[np.float64]
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Calibration:
    """The parameters that convert a model's probabilities to those of pairs of new proteins.

    Attributes:
        temperature: The number that logits are divided by.
        prevalence: The fraction of pairs of new proteins that interact.
        validation_share: The fraction of the validation pairs that interact.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    prevalence: Share
    validation_share: Share

    def apply(self, probabilities: ArrayLike) -> Values:
        """Convert the model's probabilities (N,) to calibrated probabilities."""
        return self.apply_at(probabilities, self.prevalence)

    def move_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert the model's logits to the logits of calibrated probabilities."""
        shift = logit(self.prevalence) - logit(self.validation_share)
        moved: NDArray[np.float32] = (logits / self.temperature + shift).astype(np.float32)
        return moved

    def apply_at(self, probabilities: ArrayLike, prevalence: float) -> Values:
        """Convert the model's probabilities to calibrated probabilities at a given prevalence."""
        return shift_prior(
            expit(logit(np.asarray(probabilities, np.float64)) / self.temperature),
            self.validation_share,
            prevalence,
        )


def shift_prior(probabilities: ArrayLike, before: float, after: float) -> Values:
    """Convert probabilities from one fraction of positives to another by shifting log-odds."""
    odds = logit(np.asarray(probabilities, np.float64)) + (logit(after) - logit(before))
    shifted: Values = expit(odds)
    return shifted


def calibrate(config: Config, evidence: Evidence) -> Calibration | None:
    """Fit a calibration to the validation pairs; return None if none is configured."""
    if config.evaluate.calibration == "none":
        return None
    assert evidence.prevalence is not None  # `needs_network` asks for held-out proteins
    return fit_calibration(evidence.scores, evidence.labels, evidence.prevalence)


def fit_calibration(probabilities: ArrayLike, labels: ArrayLike, prevalence: float) -> Calibration:
    """Fit the temperature to validation pairs of both classes.

    Args:
        probabilities: (N,) the model's own probabilities.
        labels: (N,) zeros and ones.
        prevalence: The fraction of pairs of new proteins that interact.
    """
    truth = np.asarray(labels)
    share = float(truth.mean())
    return Calibration(fit_temperature(probabilities, truth), prevalence, share)


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature between `COLDEST` and `HOTTEST` that minimises the log loss."""
    # Imported when needed: the import takes a fifth of a second.
    from scipy.optimize import minimize_scalar

    tiny = np.finfo(np.float64).eps
    logits = logit(np.clip(np.asarray(probabilities, np.float64), tiny, 1 - tiny))
    # The loss of a pair is log(1 + exp(-z)) with the sign of its label.
    signed = np.where(np.asarray(labels) == 1, -logits, logits)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, signed / np.exp(log_temperature)).mean())

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def weigh_classes(labels: ArrayLike, prevalence: float) -> Values:
    """Compute weights (N,) that sum to 1 over all pairs and to `prevalence` over the positives.

    Args:
        labels: (N,) zeros and ones, of both classes.
        prevalence: The sum of the positives' weights.
    """
    truth = np.asarray(labels) == 1
    positives = np.count_nonzero(truth)
    share: Values = np.where(
        truth, prevalence / positives, (1 - prevalence) / (truth.size - positives)
    )
    return share


def measure_calibration(
    probabilities: ArrayLike, labels: ArrayLike, prevalence: float
) -> dict[str, float]:
    """Compute the calibration error, Brier score and log loss of probabilities at a prevalence.

    Args:
        probabilities: (N,) probabilities of an interaction.
        labels: (N,) zeros and ones, of both classes.
        prevalence: The fraction of positives that the weighted pairs have.

    Returns:
        The expected calibration error, the Brier score (mean squared error) and the log loss.
    """
    scores, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    weights = weigh_classes(truth, prevalence)
    tiny = np.finfo(np.float64).eps
    inside = np.clip(scores, tiny, 1 - tiny)
    losses = -np.where(truth == 1, np.log(inside), np.log1p(-inside))
    return {
        "ece": expected_calibration_error(scores, truth, weights),
        "brier": float(weights @ (scores - truth) ** 2),
        "log_loss": float(weights @ losses),
    }


def expected_calibration_error(probabilities: Values, labels: Values, weights: Values) -> float:
    """Compute the expected calibration error over bins of equal weight.

    Σ_b |Σ w (y - p)| / Σ w over the pairs of each of `BINS` bins (Naeini et al. 2015). Guo et al.
    (2017) cut the probabilities into bins of equal width; bins of equal weight are never
    empty (Nixon et al. 2019), which matters where nearly all probabilities are small. Pairs with
    equal probabilities share a bin: the one in which the middle of their weight lies.
    """
    _, places = np.unique(probabilities, return_inverse=True)
    level = np.bincount(places, weights)
    middle = (np.cumsum(level) - level / 2) / level.sum()
    bins = np.minimum((middle * BINS).astype(np.int64), BINS - 1)[places]
    gaps = np.bincount(bins, weights * (labels - probabilities))
    return float(np.abs(gaps).sum() / weights.sum())
