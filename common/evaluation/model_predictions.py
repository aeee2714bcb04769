"""A checkpoint's predictions, for the pairs that tasks use or for the user's own pairs."""

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
_UNKNOWN = "the checkpoint does not list its training pairs, so test pairs among them are unknown"


def open_model(run: Run, named: str | None) -> tuple[Run, Checkpoint]:
    """Load the checkpoint to judge, and return it with a run whose configuration names it."""
    path = choose_checkpoint(run, named, ("finetune", "pretrain"))
    checkpoint = load_checkpoint(path, run.config.model.model)
    checkpoint.model.to(run.accelerator.device)
    if checkpoint.training_pairs is None:
        run.event("training_pairs_unknown", checkpoint=path, says=_UNKNOWN)
    return run.begun_from(path), checkpoint


def embed_needed_pairs(run: Run, side: TestSide, checkpoint: Checkpoint) -> PairData:
    """Embed the proteins of the pairs that tasks use."""
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
    """Yield the probability of an interaction of each pair, (N,), complete on every process.

    Args:
        checkpoint: The checkpoint, with its model on the accelerator's device.
        data: The pairs and the embeddings of their proteins.
        config: The configuration, for its section `evaluate.scoring`.
        accelerator: The processes.
        folder: Where finished scores are kept in case the run is interrupted. They are deleted when
            the block ends without an error.

    Raises:
        UserError: A score is not finite.
    """
    partial = PartialScores(folder, accelerator)
    settings = config.evaluate.scoring
    yield probabilities(score_pairs(checkpoint.model, data, settings, accelerator, partial=partial))
    if accelerator.is_main_process:
        partial.clear()


def gather_predictions(data: PairData, scores: NDArray[np.float64], file: Path) -> Predictions:
    """Turn scores into predictions, and write them to a prediction file as well."""
    predictions = Predictions.gather(data.table.proteins, data.table.pairs, scores)
    write_predictions(file, predictions.ids, predictions.pairs, predictions.scores)
    return predictions


def report_training_pairs(checkpoint: Checkpoint, table: PairTable) -> None:
    """Log how many of the user's own pairs the checkpoint was trained on."""
    if checkpoint.training_pairs is None:
        return
    seen = count_hashed(table, checkpoint.training_pairs)
    level = logging.WARNING if seen.count else logging.INFO
    says = f"{seen.count} of the pairs are training pairs of the checkpoint"
    LOGGER.log(
        level, format_event("training_pairs", says=says + (f" ({seen})" if seen.count else ""))
    )


def warn_if_synthetic(checkpoint: Checkpoint) -> None:
    """Warn that a model of the generated benchmark has never seen a real protein."""
    if checkpoint.config.data.benchmark.name == "demo":
        says = "the model was trained on synthetic data and says nothing about real proteins"
        LOGGER.warning(format_event("synthetic_model", checkpoint=checkpoint.path, says=says))
