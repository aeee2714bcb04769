"""Compute a checkpoint's predictions for test pairs or for the user's own pairs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from common.config import Config
from common.data.batches import PairData
from common.data.pair_hashes import count_hashed
from common.data.splits import embed_tables
from common.data.tables.pairs import PairTable
from common.evaluation.prediction_file import write_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide
from common.inference.checkpoints import Checkpoint, choose_checkpoint, load_checkpoint
from common.inference.compatibility import (
    warn_if_differs,
)
from common.inference.partial_scores import PartialScores
from common.inference.scoring import probabilities, score_pairs
from common.run import LOGGER, Run, format_event

PREDICTIONS_FILE, PARTIAL_SCORES = "predictions.txt.gz", "partial_scores"
_UNKNOWN = "the checkpoint does not list its training pairs, which may include test pairs"


def open_model(run: Run, named: str | None) -> tuple[Run, Checkpoint]:
    """Load the checkpoint to evaluate, and record its path in the configuration of the run."""
    path = choose_checkpoint(run, named, ("finetune", "pretrain"))
    checkpoint = load_checkpoint(path, run.config.model.model)
    checkpoint.model.to(run.accelerator.device)
    if checkpoint.training_pairs is None:
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


@contextlib.contextmanager
def scored(
    checkpoint: Checkpoint, data: PairData, config: Config, accelerator: Accelerator, folder: Path
) -> Iterator[NDArray[np.float64]]:
    """Yield each pair's predicted probability of interaction, (N,), on every process.

    Args:
        checkpoint: The checkpoint, with its model on the accelerator's device.
        data: The pairs and the embeddings of their proteins.
        config: The configuration, for its section `evaluate.scoring`.
        accelerator: The processes that share the work.
        folder: The folder for finished scores, so that an interrupted run can resume. The scores
            are deleted when the block ends without an error.

    Raises:
        UserError: A score is not finite.
    """
    partial = PartialScores(folder, accelerator)
    settings = config.evaluate.scoring
    yield probabilities(score_pairs(checkpoint.model, data, settings, accelerator, partial=partial))
    if accelerator.is_main_process:
        partial.clear()


def gather_predictions(data: PairData, scores: NDArray[np.float64], file: Path) -> Predictions:
    """Combine pairs and their scores (N,) into predictions, and write a prediction file."""
    predictions = Predictions.gather(data.table.proteins, data.table.pairs, scores)
    write_predictions(file, predictions.ids, predictions.pairs, predictions.scores)
    return predictions


def report_training_pairs(checkpoint: Checkpoint, table: PairTable) -> None:
    """Log how many of the user's pairs are training pairs of the checkpoint."""
    if checkpoint.training_pairs is None:
        return
    seen = count_hashed(table, checkpoint.training_pairs)
    level = logging.WARNING if seen.count else logging.INFO
    says = f"{seen.count} of the pairs are training pairs of the checkpoint"
    LOGGER.log(
        level, format_event("training_pairs", says=says + (f" ({seen})" if seen.count else ""))
    )


def warn_if_synthetic(checkpoint: Checkpoint) -> None:
    """Log a warning if the checkpoint was trained on synthetic proteins only."""
    if checkpoint.config.data.benchmark.name == "demo":
        says = "the model was trained on synthetic data; do not use it for real proteins"
        LOGGER.warning(format_event("synthetic_model", checkpoint=checkpoint.path, says=says))
