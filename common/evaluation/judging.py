"""Judge predictions on all tasks and write the results, in the same way for a model and a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import Config, DecisionThresholdConfig
from common.evaluation.calibration_report import CALIBRATION_FILE, CalibrationReport
from common.evaluation.closing import closing_sentence
from common.evaluation.network_summary import (
    NETWORK_FILE,
    NetworkSummary,
    Threshold,
    describe_networks,
    summarize_networks,
    tabulate_networks,
)
from common.evaluation.predictions import Predictions
from common.evaluation.results import format_results, format_table, write_results
from common.evaluation.tasks.base import TaskResult
from common.evaluation.test_side import TestSide
from common.files import write_atomically
from common.inference.thresholds import mode_of
from common.run import Run


@dataclass
class Judgement:
    """The result of every task, the notes about all of them in order, and whole networks.

    Attributes:
        results: The results by task.
        notes: One sentence each.
        threshold: The score from which pairs are called.
        networks: The predicted networks of which some task looked at all pairs.
        validation: The model's metrics on its validation pairs, if a model was judged.
        baselines: The test AUROC of each baseline that was judged beside it.
        calibration: How good the model's probabilities are, if they are calibrated.
    """

    results: Mapping[str, TaskResult]
    notes: list[str]
    threshold: Threshold
    networks: Sequence[NetworkSummary] = ()
    validation: Mapping[str, float | None] = field(default_factory=dict)
    baselines: Mapping[str, float | None] = field(default_factory=dict)
    calibration: CalibrationReport | None = None

    def closing(self) -> str | None:
        """The closing sentence; None if there is nothing to compare."""
        pairs = self.results.get("pairs")
        rows = pairs.tables["evaluate.csv"].rows if pairs else ()
        return closing_sentence(self.networks, rows, self.validation, self.baselines)


def judge(
    side: TestSide, predictions: Predictions, threshold: float, mode: str = "fixed"
) -> Judgement:
    """Judge predictions on all tasks of a test side; a pair without a score is not predicted.

    Args:
        side: The tasks and their data.
        predictions: Scores of pairs.
        threshold: The score from which a pair is called an interaction.
        mode: The threshold mode that chose it.
    """
    tasks = side.tasks
    notes = [*predictions.notes, *describe_unused(side, predictions)]
    # Tasks that share a network give the same notes about it.
    notes += dict.fromkeys(note for task in tasks.values() for note in task.coverage(predictions))
    results = {name: task.judge(predictions, threshold) for name, task in tasks.items()}
    notes += [note for result in results.values() for note in result.notes]
    networks = summarize_networks(side, predictions, threshold)
    notes += [sentence for network in networks for sentence in network.warnings()]
    return Judgement(results, notes, Threshold(threshold, mode), networks)


def describe_unused(side: TestSide, predictions: Predictions) -> list[str]:
    """Note how many listed pairs are not used by any task."""
    unused = np.flatnonzero(~used_pairs(side, predictions))
    if not len(unused):
        return []
    example = " ".join(predictions.ids[end] for end in predictions.pairs[unused[0]])
    return [
        f"{len(unused)} listed pairs (such as {example}) are not used by any requested task and are"
        " ignored"
    ]


def used_pairs(side: TestSide, predictions: Predictions) -> NDArray[np.bool_]:
    """Find which of the predicted pairs some task looks at, (P,)."""
    used: NDArray[np.bool_] = np.zeros(len(predictions.pairs), dtype=np.bool_)
    for pairs in side.pair_sets:
        used |= pairs.among(predictions)
    return used


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
            " validation pairs from which to choose one"
        )
    return notes


def conclude(run: Run, judgement: Judgement) -> None:
    """Write, log and print a judgement.

    The configuration comes last: the run's id is taken only once it is written.
    """
    for note in judgement.notes:
        run.warn("prediction_note", note=note)
    for path in write_results(judgement.results, run.log_dir):
        run.event("csv_written", path=path)
    for path in write_documents(judgement, run.log_dir):
        run.event("csv_written", path=path)
    run.begin(_resolve(run.config, judgement.threshold.value))
    print(format_judgement(judgement))  # noqa: T201 (the result on stdout)
    networks = {f"{one.species}_network": one.sentence() for one in judgement.networks}
    run.event("stage_complete", directory=run.log_dir, **networks)


def write_documents(judgement: Judgement, directory: Path) -> Iterator[Path]:
    """Write `network.json` and `calibration.json`, each only if it has content."""
    documents = {}
    if judgement.networks:
        documents[NETWORK_FILE] = describe_networks(judgement.networks, judgement.threshold)
    if judgement.calibration is not None:
        documents[CALIBRATION_FILE] = judgement.calibration.describe()
    for name, content in documents.items():
        write_atomically(directory / name, json.dumps(content, indent=1) + "\n")
        yield directory / name


def format_judgement(judgement: Judgement) -> str:
    """Format the console output: the tasks' tables, the networks' sizes and a closing sentence."""
    parts = [format_results(judgement.results)]
    if judgement.networks:
        parts.append(format_table(tabulate_networks(judgement.networks, judgement.threshold)))
    calibration = judgement.calibration
    closing = [calibration and calibration.sentence(), judgement.closing()]
    return "\n\n".join([*parts, *(sentence for sentence in closing if sentence)])


def _resolve(config: Config, threshold: float) -> Config:
    """The configuration with the threshold that was used, and without the run's id.

    With this configuration, the run's prediction file gives the same metrics in another run.
    """
    fixed = DecisionThresholdConfig(mode="fixed", value=threshold)
    evaluate = config.evaluate.model_copy(update={"decision_threshold": fixed})
    run = config.run.model_copy(update={"eval_run_id": None})
    return config.model_copy(update={"evaluate": evaluate, "run": run})
