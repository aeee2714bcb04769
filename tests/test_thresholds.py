"""Thresholds: the modes, which of them gives a checkpoint's threshold, and calls made by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from common.config import Config, DecisionThresholdConfig, LossConfig
from common.data.splits import Splits
from common.errors import UserError
from common.inference.checkpoints import Checkpoint
from common.inference.deciding import Decider
from common.inference.decision import Decision
from common.inference.pair_metrics import pair_metrics
from common.inference.scoring import probabilities, score_pairs
from common.inference.thresholds import (
    Choice,
    Evidence,
    Threshold,
    ThresholdMode,
    call_pairs,
    check_threshold,
)
from common.inference.thresholds.best_f1_on_valid import best_f1_threshold
from common.registry import THRESHOLD_MODES
from common.training.losses import PairLoss
from common.training.validation import Validator
from tests.tiny_benchmark import TinyProject, call_main
from tests.tiny_pairs import alone, make_pairs, one_process
from tests.tiny_run import configure, model_of


def configured(mode: str, value: float = 0.5) -> Config:
    return configure(evaluate={"decision_threshold": {"mode": mode, "value": value}})


def checkpoint_of(config: Config, mode: str) -> Checkpoint:
    """A model whose stored threshold, 0.7, was chosen in this mode."""
    return Checkpoint(
        Path("best_model"), model_of(config), config, Decision(0.7, mode, "auprc", 1, {}, "")
    )


def best_threshold_of(checkpoint: Checkpoint, pairs: Any) -> float:
    config, accelerator = checkpoint.config, one_process()
    logits = score_pairs(checkpoint.model, pairs, config.evaluate.scoring, accelerator)
    return best_f1_threshold(probabilities(logits), pairs.table.labels)


@pytest.mark.parametrize("mode", ["fixed", "best_f1_on_valid"])
def test_validation_applies_and_stores_the_threshold_of_the_mode(mode: str) -> None:
    """To its last digit: the calls of a checkpoint's own scores depend on it."""
    config, pairs = configured(mode, 0.25), make_pairs(40, dim=6)
    checkpoint = checkpoint_of(config, mode)
    loss = PairLoss(LossConfig())
    decision = (
        Validator(alone(pairs), loss, config, one_process()).validate(checkpoint.model, 1).decision
    )
    best = best_threshold_of(checkpoint, pairs)
    assert best not in (0.25, 0.5, round(best, 4))
    assert (decision.mode, decision.threshold) == (mode, {"fixed": 0.25}.get(mode, best))


def test_a_fixed_threshold_is_the_configurations_not_the_checkpoints() -> None:
    for trained in ("fixed", "best_f1_on_valid"):
        config = configured("fixed", 0.25)
        decider = Decider(checkpoint_of(config, trained), config, one_process())
        assert decider.threshold == Threshold(0.25, "fixed")


def test_a_threshold_chosen_in_the_same_mode_is_taken_from_the_checkpoint() -> None:
    config = configured("best_f1_on_valid")
    decider = Decider(checkpoint_of(config, "best_f1_on_valid"), config, one_process())
    assert decider.threshold == Threshold(0.7, "best_f1_on_valid")


def test_another_modes_threshold_is_not_taken_but_chosen_on_the_validation_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, pairs = configured("best_f1_on_valid"), make_pairs(40, dim=6)
    opened = Splits({"val": pairs}, {})
    monkeypatch.setattr("common.inference.deciding.open_splits", lambda *_: opened)
    checkpoint = checkpoint_of(config, "fixed")
    threshold = Decider(checkpoint, config, one_process()).threshold.value
    assert threshold == best_threshold_of(checkpoint, pairs) != 0.7
    pairs.table.labels[:] = 1
    with pytest.raises(UserError, match=r"one class only.*best_f1_on_valid.*mode: fixed"):
        _ = Decider(checkpoint, config, one_process()).threshold


def test_settings_that_the_mode_ignores_or_cannot_use_are_rejected() -> None:
    settings, key = DecisionThresholdConfig, "evaluate.decision_threshold.value"
    check_threshold(settings(mode="fixed", value=0.3), {key})
    check_threshold(settings(mode="best_f1_on_valid", value=7.0))
    with pytest.raises(UserError, match=r"value is ignored while the mode is best.*mode=fixed"):
        check_threshold(settings(mode="best_f1_on_valid"), {key})
    with pytest.raises(UserError, match=r"value is 7\.0, but a model's scores are prob"):
        check_threshold(settings(mode="fixed", value=7.0))


@pytest.fixture
def toy() -> Iterator[None]:
    """A mode that is registered from here: the threshold that calls the three highest scores."""

    def choose(settings: DecisionThresholdConfig, evidence: Evidence) -> Choice:
        return Choice(float(np.sort(evidence.scores)[-3]))

    THRESHOLD_MODES.add("toy", ThresholdMode(choose, needs_validation=True))
    yield
    del THRESHOLD_MODES._entries["toy"]


@pytest.mark.usefixtures("toy")
def test_a_registered_mode_is_stored_by_training_and_used_by_evaluation(
    project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["training_config.epochs=1", "evaluate.decision_threshold.mode=toy"]
    metrics = "training_config.logging.validation_metrics=[recall,precision]"
    call_main(project, "pretrain.py", "--set", *settings, metrics)
    model = Path(capsys.readouterr().out.strip())
    decision = json.loads((model / "decision.json").read_text())
    assert decision["mode"] == "toy"
    # Three of 30 validation pairs are called: their precision is a whole number of thirds.
    assert (3 * decision["validation"]["precision"]).is_integer()
    call_main(project, "evaluate.py", "--set", settings[1])
    (log,) = project.output.glob("logs/v3/evaluate/*/log.log")
    assert f"stage_start | tasks=pairs | threshold={decision['threshold']:.6g}" in log.read_text()


def test_a_probability_equal_to_the_threshold_is_called() -> None:
    assert call_pairs([0.49, 0.5, 0.51], 0.5).tolist() == [False, True, True]


def test_a_threshold_between_two_neighbouring_float32_scores_parts_them() -> None:
    """NumPy compares float32 scores with a float rounded to float32, here onto the lower score."""
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    threshold = (float(low) + float(high)) / 2
    scores = np.array([low, high])
    assert (scores >= threshold).all()
    assert call_pairs(scores, threshold).tolist() == [False, True]


def _search_best_f1(scores: np.ndarray, labels: np.ndarray) -> float:
    """The highest F1 over every way of calling the pairs by a threshold."""
    return max(float(sk.f1_score(labels, scores >= level)) for level in np.unique(scores))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 3, 9])
def test_the_best_f1_threshold_reaches_the_best_f1(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(120) < 0.3).astype(int)
    scores = np.clip(rng.normal(0.4 + 0.1 * labels, 0.2), 0, 1).round(decimals).astype(np.float32)
    threshold = best_f1_threshold(scores, labels)
    reached = pair_metrics(scores, labels, threshold, ["f1"])["f1"]
    assert reached == pytest.approx(_search_best_f1(scores, labels), abs=1e-12)
    order = rng.permutation(120)
    assert best_f1_threshold(scores[order], labels[order]) == threshold


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([0.2, 0.4, 0.8], [0, 0, 1], 0.6),  # midway between 0.4 and 0.8
        ([0.2, 0.6, 0.6, 0.8], [0, 1, 1, 1], 0.4),  # tied scores stay together
        ([0.4, 0.8], [1, 0], 0.2),  # all are called: midway to zero
        ([0.0, 0.5], [1, 0], 0.0),  # … unless the lowest score is zero
        ([0.1, 0.3, 0.5, 0.7], [1, 0, 0, 1], 0.6),  # 2/3 with 1 call and with 4: the fewest
    ],
)
def test_the_best_f1_threshold_lies_where_it_says(
    scores: Any, labels: Any, threshold: float
) -> None:
    assert best_f1_threshold(scores, labels) == pytest.approx(threshold, abs=1e-15)


def test_neighbouring_floats_are_parted() -> None:
    """Midway between two neighbouring floats rounds onto one of them, and must not be the lower."""
    for low in (0.5, np.nextafter(0.5, 1)):
        high = np.nextafter(low, 1)
        assert best_f1_threshold([low, high], [0, 1]) == high


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_best_threshold(label: int) -> None:
    with pytest.raises(ValueError, match="needs both classes"):
        best_f1_threshold([0.1, 0.9], [label, label])
