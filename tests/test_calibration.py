"""Calibration: the two steps, the fit and the measures, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from common.inference.calibration import (
    BINS,
    HOTTEST,
    Calibration,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    measure_calibration,
    shift_prior,
    weigh_classes,
)
from common.inference.rounding import lowest_written, round_digits


def draw(
    seed: int, count: int = 4000, temperature: float = 1.0, share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is `temperature` times too sure, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, count) + logit(share)
    labels = (rng.random(count) < expit(logits)).astype(int)
    return expit(temperature * logits), labels


def test_the_two_steps_by_hand() -> None:
    """Odds 9 : 1, at the temperature 2 3 : 1; from one half to one fifth divides them by 4."""
    calibration = Calibration(2.0, prevalence=0.2, validation_share=0.5)
    assert calibration.apply([0.9, 0.5]) == pytest.approx([0.75 / 1.75, 0.2])
    assert calibration.apply_at([0.9], 0.5) == pytest.approx([0.75])
    # From a third (odds 1 : 2) to a half: twice the odds.
    assert shift_prior([0.5], 1 / 3, 1 / 2) == pytest.approx([2 / 3])
    third = Calibration(1.0, prevalence=0.5, validation_share=1 / 3)
    assert third.apply([0.5]) == pytest.approx([2 / 3])


def test_sure_probabilities_stay_sure_and_nothing_is_undefined() -> None:
    assert Calibration(3.0, 0.01, 0.5).apply([0.0, 1.0]).tolist() == [0.0, 1.0]


def test_the_prior_correction_is_bayes_rule() -> None:
    """A score seen in 30 % of the positives and 10 % of the negatives."""
    for before, after in ((0.5, 0.02), (0.3, 0.6)):
        at_before = 0.3 * before / (0.3 * before + 0.1 * (1 - before))
        at_after = 0.3 * after / (0.3 * after + 0.1 * (1 - after))
        assert shift_prior([at_before], before, after) == pytest.approx([at_after])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(true: float) -> None:
    probabilities, labels = draw(1, 40_000, true)
    assert fit_temperature(probabilities, labels) == pytest.approx(true, rel=0.05)


def test_no_other_temperature_has_a_smaller_log_loss() -> None:
    """Against scikit-learn's log loss on a fine grid."""
    probabilities, labels = draw(2, 500, 2.5)
    found = fit_temperature(probabilities, labels)
    grid = np.exp(np.linspace(-2, 2, 401))
    losses = [log_loss(labels, expit(logit(probabilities) / each)) for each in grid]
    assert log_loss(labels, expit(logit(probabilities) / found)) <= min(losses)
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)


def test_scores_that_say_nothing_or_are_upside_down_become_one_half() -> None:
    probabilities, labels = draw(3, 500)
    upside_down = fit_temperature(1 - probabilities, labels)
    assert upside_down == pytest.approx(HOTTEST, rel=1e-3)
    # Infinite logits are no obstacle.
    assert 0 < fit_temperature([0.0, 1.0, 0.4, 0.0], [0, 1, 1, 1]) < HOTTEST


def test_a_fit_keeps_the_share_of_the_validation_pairs() -> None:
    probabilities, labels = draw(4, 1000, share=0.25)
    fitted = fit_calibration(probabilities, labels, 0.01)
    assert fitted.validation_share == labels.mean()
    assert fitted.prevalence == 0.01
    assert fitted.temperature == fit_temperature(probabilities, labels)


@pytest.mark.parametrize("seed", range(5))
def test_calls_by_a_threshold_that_is_moved_along_are_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = expit(rng.normal(0, 8, 2000))
    calibration = Calibration(float(rng.uniform(0.3, 5)), float(rng.uniform(0.001, 0.5)), 0.5)
    levels = np.unique(probabilities)
    for low, high in zip(levels[:-1:40], levels[1::40], strict=True):
        threshold = (low + high) / 2
        moved = calibration.apply([threshold])
        assert ((calibration.apply(probabilities) >= moved) == (probabilities >= threshold)).all()


def test_weights_give_the_classes_their_shares() -> None:
    weights = weigh_classes([1, 0, 0, 0], 0.1)
    assert weights == pytest.approx([0.1, 0.3, 0.3, 0.3])


@pytest.mark.parametrize("prevalence", [0.02, 0.4])
def test_brier_score_and_log_loss_are_those_of_scikit_learn(prevalence: float) -> None:
    probabilities, labels = draw(5, 300)
    found = measure_calibration(probabilities, labels, prevalence)
    weights = weigh_classes(labels, prevalence)
    assert found["brier"] == pytest.approx(
        brier_score_loss(labels, probabilities, sample_weight=weights), rel=1e-12
    )
    assert found["log_loss"] == pytest.approx(
        log_loss(labels, probabilities, sample_weight=weights), rel=1e-12
    )
    assert found["ece"] == pytest.approx(
        expected_calibration_error(probabilities, labels, weights), rel=1e-12
    )


def test_the_calibration_error_is_that_of_scikit_learns_curve_in_equal_bins() -> None:
    probabilities, labels = draw(6, 10 * BINS, 2.0)
    true, mean = calibration_curve(labels, probabilities, n_bins=BINS, strategy="quantile")
    assert len(true) == BINS
    weights = np.full(len(labels), 2.0)
    found = expected_calibration_error(probabilities, labels.astype(float), weights)
    assert found == pytest.approx(np.abs(true - mean).mean(), rel=1e-9)


def test_the_calibration_error_by_hand_with_ties_and_weights() -> None:
    """Two probabilities, so two bins: 0.2, of which 1/2 are true, and 0.6, of which 3/4 are."""
    probabilities = np.array([0.2, 0.2, 0.6, 0.6])
    labels, weights = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 3.0, 1.0])
    expected = (2 * 0.3 + 4 * 0.15) / 6
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = expected_calibration_error(probabilities[order], labels[order], weights[order])
        assert found == pytest.approx(expected)


def test_right_probabilities_have_hardly_an_error_at_any_prevalence() -> None:
    """A model that is twice too sure, calibrated, and judged where one pair in 50 interacts."""
    fitted = fit_calibration(*draw(7, 40_000, 2.0), 0.02)
    probabilities, labels = draw(8, 40_000, 2.0)
    raw = measure_calibration(probabilities, labels, 0.02)
    calibrated = measure_calibration(fitted.apply(probabilities), labels, 0.02)
    at_half = measure_calibration(fitted.apply_at(probabilities, 0.5), labels, 0.5)
    assert raw["ece"] > 0.2
    assert calibrated["ece"] < 0.003
    assert at_half["ece"] < 0.015 < measure_calibration(probabilities, labels, 0.5)["ece"]
    assert calibrated["brier"] < raw["brier"]


def test_written_probabilities_have_six_digits() -> None:
    numbers = np.array([0.123456789, 1.23456789e-20, 1 - 1e-9, 0.0, 0.5])
    assert round_digits(numbers).tolist() == [0.123457, 1.23457e-20, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("threshold", [0.5, 0.123457, 0.1, 1.0, 1e-3, 0.999999, 2.5e-9])
def test_what_is_written_as_the_threshold_reaches_it_and_nothing_lower_does(
    threshold: float,
) -> None:
    lowest = lowest_written(threshold)
    assert lowest < threshold
    around = np.array([lowest * (1 - 1e-8), np.nextafter(lowest, 0), lowest, threshold])
    assert (round_digits(around) >= threshold).tolist() == [False, False, True, True]


@pytest.mark.parametrize("threshold", [0.0, 0.12345678, -1.0])
def test_a_threshold_with_more_digits_is_taken_as_it_is(threshold: float) -> None:
    assert lowest_written(threshold) == threshold


def test_a_probability_belongs_to_the_bin_of_the_middle_of_its_weight() -> None:
    """Of fifteen parts of the weight, 0.2 has 0.5 and 0.6 has 0.9: both middles are in the first.

    There 0.5 * 0.8 too little and 0.9 * 0.6 too much cancel in part; 0.9 is right.
    """
    probabilities, labels = np.array([0.2, 0.6, 0.9, 0.9]), np.array([1.0, 0.0, 1.0, 0.0])
    weights = np.array([0.5, 0.9, 0.9 * 13.6, 0.1 * 13.6])
    found = expected_calibration_error(probabilities, labels, weights)
    assert found == pytest.approx((0.9 * 0.6 - 0.5 * 0.8) / 15)
