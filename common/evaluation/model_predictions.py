"""Compute a checkpoint's predictions for the pairs that the requested tasks use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from common.data.batches import PairData
from common.data.splits import embed_tables
from common.evaluation.networks import FloatArray
from common.evaluation.prediction_file import write_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.scored import Scored
from common.evaluation.test_side import TestSide
from common.inference.checkpoints import Checkpoint, choose_checkpoint, load_checkpoint
from common.inference.compatibility import warn_if_differs
from common.inference.compiling import compile_rows
from common.inference.deciding import Decider, describe_calibration
from common.inference.partial_scores import PartialScores
from common.inference.ready import report_ready
from common.inference.scoring import probabilities, score_pairs
from common.run import Run

PREDICTIONS_FILE, PARTIAL_SCORES = "predictions.txt.gz", "partial_scores"
_UNKNOWN = "the checkpoint does not list its training pairs, which may include test pairs"


def open_model(run: Run, named: str | None) -> tuple[Run, Checkpoint]:
    """Load the checkpoint to evaluate, and record its path in the configuration of the run."""
    path = choose_checkpoint(run, named, ("finetune", "pretrain"))
    checkpoint = load_checkpoint(path, run.config.model.model)
    checkpoint.model.to(run.accelerator.device)
    compile_rows(checkpoint.model, run.accelerator)
    if checkpoint.trained_on is None:
        run.event("training_pairs_unknown", checkpoint=path, says=_UNKNOWN)
    return run.begun_from(path), checkpoint


def embed_needed_pairs(run: Run, side: TestSide, checkpoint: Checkpoint) -> PairData:
    """Embed the proteins of all pairs that the requested tasks use."""
    tables = {"scored": side.needed_pairs()}
    parts, notes = embed_tables(run.config, tables, side.sequences(), run.accelerator)
    data = parts["scored"]
    warn_if_differs(run, checkpoint, data.store)
    notes["scored"] = f"{len(data)} pairs of {len(data.table.proteins)} proteins"
    run.event("data_ready", **side.describe(), **notes)
    return data


def decide(run: Run, checkpoint: Checkpoint) -> Decider:
    """Choose the threshold and the calibration on every process, and log the evaluation's start."""
    decider = Decider(checkpoint, run.config, run.accelerator)
    threshold, calibration = decider.threshold, describe_calibration(decider.calibration)
    report_ready(run, checkpoint.model, checkpoint=checkpoint.path, **calibration)
    run.event(
        "stage_start",
        tasks=run.config.evaluate.tasks,
        threshold=threshold.value,
        threshold_mode=threshold.mode,
    )
    return decider


@contextlib.contextmanager
def scored(run: Run, checkpoint: Checkpoint, data: PairData, folder: str) -> Iterator[FloatArray]:
    """Yield each pair's predicted probability of interaction, (N,), on every process.

    Args:
        run: The run of the stage.
        checkpoint: The checkpoint, with its model on the accelerator's device.
        data: The pairs and the embeddings of their proteins.
        folder: The name of the folder for finished scores, so that an interrupted run can resume.
            It is beside the run's own folder, where a run with another id finds it. The scores are
            deleted when the block ends without an error.

    Raises:
        UserError: A score is not finite.
    """
    accelerator, settings = run.accelerator, run.config.evaluate.scoring
    partial = PartialScores(run.model_dir.parent / folder, accelerator)
    yield probabilities(score_pairs(checkpoint.model, data, settings, accelerator, partial=partial))
    if accelerator.is_main_process:
        partial.clear()


def gather_scored(run: Run, decider: Decider, data: PairData, scores: FloatArray) -> Scored:
    """Combine pairs and their scores (N,) into predictions, and write a prediction file."""
    checkpoint = decider.checkpoint
    predictions = Predictions.gather(data.table.proteins, data.table.pairs, scores)
    write_predictions(
        run.log_dir / PREDICTIONS_FILE, predictions.ids, predictions.pairs, predictions.scores
    )
    return Scored(
        "model",
        predictions,
        decider.threshold,
        run.config.model.model,
        checkpoint.path,
        checkpoint.decision.validation,
        decider.calibration,
    )
