"""Judging predictions on all tasks, and what is left of it: the same for a model and for a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config import Config, DecisionThresholdConfig
from common.evaluation.predictions import Predictions
from common.evaluation.results import format_results, write_results
from common.evaluation.tasks.base import TaskResult
from common.evaluation.test_side import TestSide
from common.inference.thresholds import mode_of
from common.run import Run


@dataclass
class Judgement:
    """The result of every task, and the notes about all of them in order."""

    results: Mapping[str, TaskResult]
    notes: list[str]


def judge(side: TestSide, predictions: Predictions, threshold: float) -> Judgement:
    """Judge predictions on all tasks of a test side; a pair without a score is not predicted."""
    tasks = side.tasks
    notes = [*predictions.notes, *describe_unused(side, predictions)]
    # Tasks that share a network have the same to say about it.
    notes += dict.fromkeys(note for task in tasks.values() for note in task.coverage(predictions))
    results = {name: task.judge(predictions, threshold) for name, task in tasks.items()}
    notes += [note for result in results.values() for note in result.notes]
    return Judgement(results, notes)


def describe_unused(side: TestSide, predictions: Predictions) -> list[str]:
    """Note how many listed pairs are not used by any task."""
    used: NDArray[np.bool_] = np.zeros(len(predictions.pairs), dtype=np.bool_)
    for pairs in side.pair_sets:
        used |= pairs.among(predictions)
    unused = np.flatnonzero(~used)
    if not len(unused):
        return []
    example = " ".join(predictions.ids[end] for end in predictions.pairs[unused[0]])
    return [
        f"{len(unused)} listed pairs (such as {example}) are not used by any requested task and are"
        " ignored"
    ]


def describe_scores(predictions: Predictions, settings: DecisionThresholdConfig) -> list[str]:
    """Note how many pairs the threshold calls if a file's scores are not probabilities."""
    scores, threshold = predictions.scores, settings.value
    notes = []
    called = int((scores >= threshold).sum())
    if len(scores) and not (called and scores.min() >= 0 and scores.max() <= 1):
        notes.append(
            f"the scores run from {scores.min():g} to {scores.max():g}, and the threshold"
            f" (evaluate.decision_threshold.value, {threshold:g}) calls {called} of {len(scores)}"
            " pairs"
        )
    if mode_of(settings).needs_validation:
        notes.append(
            f"evaluate.decision_threshold.value ({threshold}) is the threshold: a file has no"
            " validation pairs to choose one by"
        )
    return notes


def conclude(run: Run, judgement: Judgement, threshold: float) -> None:
    """Write, log and print a judgement.

    The configuration comes last: the run's id is taken only once it is written.
    """
    for note in judgement.notes:
        run.warn("prediction_note", note=note)
    for path in write_results(judgement.results, run.log_dir):
        run.event("csv_written", path=path)
    run.begin(_resolve(run.config, threshold))
    print(format_results(judgement.results))  # noqa: T201 (the result on stdout)
    run.event("stage_complete", directory=run.log_dir)


def _resolve(config: Config, threshold: float) -> Config:
    """The configuration with the threshold that was used, and without the run's id.

    With it, the prediction file that the run leaves gives the same metrics in another run.
    """
    fixed = DecisionThresholdConfig(mode="fixed", value=threshold)
    evaluate = config.evaluate.model_copy(update={"decision_threshold": fixed})
    run = config.run.model_copy(update={"eval_run_id": None})
    return config.model_copy(update={"evaluate": evaluate, "run": run})
