"""Predict and write a network of the user's own proteins, as `evaluate.py --fasta` does."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation.export.base import Format, Proteins, format_of
from common.evaluation.own_pairs import (
    OwnPairs,
    OwnSequences,
    make_grid,
    read_own_pairs,
    read_queries,
)
from common.evaluation.own_request import Request
from common.evaluation.own_summary import (
    describe_metrics,
    report_training_pairs,
    summarize,
    warn_if_synthetic,
)
from common.evaluation.own_writing import NetworkFile
from common.files import explain_disk_errors
from common.inference.cascade import Shortlist
from common.inference.grid_scoring import ScoredPairs
from common.inference.pair_grid import PairGrid
from common.inference.partial_scores import PartialScores
from common.inference.predictor import Embedded, Predictor
from common.inference.scoring import probabilities
from common.inference.selection import select_of_grid, select_of_list
from common.run import on_main_process

_PIECE = 1 << 20  # the number of listed pairs that are written at a time


@dataclass(frozen=True)
class Task:
    """The pairs to score, as a list or a grid, with their proteins and embeddings.

    Attributes:
        proteins: The proteins that occur in the pairs.
        embedded: The embeddings of the proteins.
        pairs: The grid, or (N, 2) indices of the proteins of listed pairs.
        labels: (N,) the labels of listed pairs; None without labels.
    """

    proteins: Proteins
    embedded: Embedded
    pairs: PairGrid | NDArray[np.int64]
    labels: NDArray[np.int8] | None = None

    @property
    def count(self) -> int:
        """The number of pairs to score."""
        return self.pairs.count if isinstance(self.pairs, PairGrid) else len(self.pairs)


def predict_network(
    checkpoint: Path, request: Request, overrides: Sequence[str], accelerator: Accelerator
) -> list[str]:
    """Predict the network that the user requests, and write it to a file.

    Returns:
        Sentences that describe the network to the user; none except on the main process.

    Raises:
        UserError: The input is wrong, or the output cannot be written.
    """
    kind = format_of(request.output)
    sequences = OwnSequences.read(request.fastas)
    own, queries = None, None
    if request.pairs:
        own = read_own_pairs(request.pairs, sequences, request.skip_unknown)
    if request.query:
        queries = read_queries(request.query, sequences, request.skip_unknown)
    predictor = Predictor.load(checkpoint, overrides, accelerator)
    if own:
        task = embed_listed(predictor, sequences, own)
    else:
        task = embed_grid(predictor, sequences, queries, request.self_pairs)
    real = request.output.resolve()
    with kept(real.with_name(f".{real.name}.partial"), accelerator) as folder:
        sentences = write_network(predictor, task, request, kind, folder)
    if accelerator.is_main_process:
        warn_if_synthetic(predictor.checkpoint)
    return sentences


def embed_listed(predictor: Predictor, sequences: OwnSequences, own: OwnPairs) -> Task:
    """Embed the proteins of the listed pairs, and return the pairs as a task for scoring."""
    known = sequences.all
    names = [own.ids[i] for i in np.unique(own.pairs).tolist()]
    embedded = predictor.embed({name: known[name] for name in names})
    proteins = _describe(sequences, embedded)
    pairs = places_of(own.ids, proteins.ids)[own.pairs]
    report_training_pairs(
        predictor.checkpoint, PairTable(proteins.ids, pairs, np.zeros(len(pairs), np.int8))
    )
    return Task(proteins, embedded, pairs, own.labels)


def embed_grid(
    predictor: Predictor,
    sequences: OwnSequences,
    queries: Sequence[str] | None,
    with_self: bool,
) -> Task:
    """Embed all proteins, and return the grid of their pairs as a task for scoring.

    Raises:
        UserError: The grid has no pairs.
    """
    ids = tuple(sorted(sequences.all))
    grid = make_grid(sequences, ids, queries, with_self)
    if not grid.count:
        raise UserError(
            f"no pairs can be formed from the proteins in {sequences}; give at least two proteins,"
            " or add --self-pairs"
        )
    embedded = predictor.embed(sequences.all)
    # If all pairs are scored, a protein without interactions is a result, so it remains a node.
    everything = queries is None and len(sequences.parts) == 1
    proteins = _describe(sequences, embedded, grid.rows if everything else grid.rows[:0])
    return Task(proteins, embedded, grid)


def _describe(
    sequences: OwnSequences, embedded: Embedded, listed: NDArray[np.int64] | None = None
) -> Proteins:
    ids, known = embedded.data.table.proteins, sequences.all
    lengths = np.array([len(known[name]) for name in ids], np.int64)
    none = np.empty(0, np.int64)
    return Proteins(ids, lengths, sequences.descriptions, none if listed is None else listed)


@contextlib.contextmanager
def kept(folder: Path, accelerator: Accelerator) -> Iterator[Path]:
    """Create a folder for unfinished files, which is deleted if the block ends without an error."""

    def make() -> None:
        with explain_disk_errors(folder):
            folder.mkdir(exist_ok=True)

    on_main_process(accelerator, make)
    yield folder
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)


def write_network(
    predictor: Predictor, task: Task, request: Request, kind: Format, folder: Path
) -> list[str]:
    """Score the pairs, write the network on the main process, and return a description."""
    shortlist = None
    if isinstance(task.pairs, PairGrid):
        shortlist = predictor.shortlist(task.embedded, task.pairs, folder)
    scored = score(predictor, task, request, folder, shortlist)
    if not predictor.accelerator.is_main_process:
        for _ in scored:  # Other processes only take part in the scoring.
            pass
        return []
    file = NetworkFile(request, kind, task.proteins, predictor, folder)
    for pairs in scored:
        file.write(pairs)
    file.close()
    return summarize(file, predictor, task.count, shortlist)


def score(
    predictor: Predictor, task: Task, request: Request, folder: Path, shortlist: Shortlist | None
) -> Iterator[ScoredPairs]:
    """Score the pairs, and yield the selected pairs on the main process."""
    if isinstance(task.pairs, PairGrid):
        selection = select_of_grid(request.wish, task.pairs)
        yield from predictor.stream(task.embedded, task.pairs, selection, shortlist, folder)
        return
    partial = PartialScores(folder, predictor.accelerator)
    logits = predictor.score_list(task.embedded, task.pairs, partial)
    scores = probabilities(logits)
    if task.labels is not None and predictor.accelerator.is_main_process:
        describe_metrics(scores, task.labels, predictor.threshold)
    selection = select_of_list(request.wish, len(logits))
    for start in range(0, len(logits), _PIECE):
        piece = slice(start, start + _PIECE)
        first, second = task.pairs[piece].T
        yield from selection.take(ScoredPairs(first, second, logits[piece]))
    yield from selection.finish()
