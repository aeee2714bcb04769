"""Read predictions for the tasks' pairs from a file, and check them against the threshold."""

from __future__ import annotations

from pathlib import Path

from common.config import DecisionThresholdConfig
from common.evaluation.prediction_file import read_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.scored import Scored
from common.evaluation.test_side import TestSide
from common.inference.thresholds import Threshold, mode_of
from common.run import Run


def read_scored(run: Run, side: TestSide, file: Path) -> Scored:
    """Read the predictions in a file, and log the start of the evaluation with its threshold."""
    predictions = read_predictions(file, side.proteins())
    run.event("model_ready", predictions=file, pairs=len(predictions.pairs))
    settings = run.config.evaluate.decision_threshold
    threshold = Threshold(settings.value)
    run.event(
        "stage_start",
        tasks=run.config.evaluate.tasks,
        threshold=threshold.value,
        threshold_mode=threshold.mode,
    )
    return Scored(
        "predictions",
        predictions,
        threshold,
        file.name,
        file,
        notes=describe_scores(predictions, settings),
    )


def describe_scores(predictions: Predictions, settings: DecisionThresholdConfig) -> list[str]:
    """Compose notes if the threshold of a prediction file may not fit the file's scores."""
    scores, threshold = predictions.scores, settings.value
    notes = []
    called = int((scores >= threshold).sum())
    if len(scores) and not (called and scores.min() >= 0 and scores.max() <= 1):
        notes.append(
            f"the scores range from {scores.min():g} to {scores.max():g}; with the threshold"
            f" {threshold:g} (evaluate.decision_threshold.value), {called} of {len(scores)} pairs"
            " are predicted to interact"
        )
    if mode_of(settings).needs_validation:
        notes.append(
            f"the threshold is evaluate.decision_threshold.value ({threshold}), because a"
            " prediction file has no validation pairs from which to choose a threshold"
        )
    return notes
