"""Report on the user's own pairs and on the network that was predicted for these pairs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from common.data.pair_hashes import count_hashed
from common.data.tables.pairs import PairTable
from common.errors import count_of, excerpt
from common.evaluation.export.base import Proteins
from common.evaluation.own_writing import NetworkFile
from common.inference.calibration import Calibration
from common.inference.cascade import Shortlist
from common.inference.checkpoints import Checkpoint
from common.inference.deciding import move_threshold
from common.inference.pair_metrics import pair_metrics
from common.inference.predictor import Predictor
from common.registry import THRESHOLD_MODES
from common.run import LOGGER, format_event

FEW = 5  # the most protein names in a sentence


def report_training_pairs(checkpoint: Checkpoint, table: PairTable) -> None:
    """Log how many of the user's pairs are training pairs of the checkpoint."""
    if checkpoint.trained_on is None:
        return
    seen = count_hashed(table, checkpoint.trained_on.pairs)
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


def describe_metrics(
    scores: NDArray[np.float64], labels: NDArray[np.int8], threshold: float
) -> None:
    """Log the metrics of the user's labelled pairs at the checkpoint's decision threshold."""
    metrics = pair_metrics(scores, labels, threshold)
    counts = {"positives": labels.sum(), "negatives": len(labels) - labels.sum()}
    shown = {name: "undefined" if value is None else value for name, value in metrics.items()}
    LOGGER.info(format_event("own_pairs_judged", **counts, **shown, threshold=threshold))


def summarize(
    file: NetworkFile, predictor: Predictor, total: int, shortlist: Shortlist | None
) -> list[str]:
    """Describe the written pairs, the model, truncated sequences and pairs lost to a prefilter.

    Args:
        file: The written network.
        predictor: The model.
        total: The number of requested pairs.
        shortlist: The pairs that a prefilter chose for scoring; None without a prefilter.
    """
    count, path = file.count, file.request.output
    scored = total if shortlist is None else len(shortlist.pairs)
    lost = [] if shortlist is None else [shortlist.describe()]
    called, trained = "none is predicted to interact, because no probability is", ""
    if count.called:
        called = count_of(count.called, "is", "are") + " predicted to interact, because"
        called += f" {'its' if count.called == 1 else 'their'} probability is"
    if file.trained_on is not None and count.called:
        known = count_of(count.trained_on, "was a training pair", "were training pairs")
        trained = f" Of the predicted interactions, {known} of the model."
    benchmark = predictor.checkpoint.config.data.benchmark
    source = "synthetic data" if benchmark.name == "demo" else benchmark.name
    proteins = count_of(len(file.proteins.ids), "protein")
    return [
        f"{count_of(scored, f'pair of {proteins} was', f'pairs of {proteins} were')} scored, and"
        f" {count_of(count.written, 'was', 'were')} written to {path};"
        f" {called} at least {_describe_threshold(file, predictor)}.{trained}",
        f"The model {predictor.checkpoint.path} was trained on {source} ({benchmark.species},"
        f" {benchmark.split_strategy}); its probabilities are"
        f" {_describe_calibration(predictor.calibration)}. {path} opens in {file.kind.opens_with}.",
        *_describe_cut(file.proteins, predictor.config.data.cut_length),
        *lost,
    ]


def _describe_cut(proteins: Proteins, cut_length: int | None) -> Iterator[str]:
    if cut_length is None:
        return
    cut = np.flatnonzero(proteins.lengths > cut_length)
    if len(cut):
        names = ", ".join(excerpt(proteins.ids[row]) for row in cut[:FEW])
        yield (
            f"{count_of(len(cut), 'of the proteins was', 'of the proteins were')} truncated to the"
            f" first {cut_length} residues, as in the model's training: {names}"
            f"{', …' if len(cut) > FEW else ''}."
        )


def _describe_calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return "not calibrated (evaluate.calibration: none)"
    return (
        f"calibrated (temperature {calibration.temperature:.3g}, assumed fraction of interacting"
        f" pairs {calibration.prevalence:.3g})"
    )


def _describe_threshold(file: NetworkFile, predictor: Predictor) -> str:
    wish, decision = file.request.wish, predictor.checkpoint.decision
    if wish.density is not None:
        share = f"{wish.density:.3g} of all pairs"
        return f"{file.count.lowest:.4g} (the lowest probability of the best {share})"
    if wish.threshold is not None:
        origin = "given by --threshold"
    elif file.threshold != move_threshold(predictor.checkpoint, predictor.calibration):
        origin = "set by evaluate.decision_threshold"
    elif THRESHOLD_MODES.get(decision.mode).needs_validation:
        origin = f"chosen by {decision.mode} on the model's validation pairs"
    else:
        origin = "fixed in the model's training configuration"
    return f"{file.threshold:.4g} ({origin})"
