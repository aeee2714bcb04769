"""Score a grid of pairs in stripes of rows, so that memory does not grow with the number of pairs.

The stripes and their blocks depend on the proteins alone, so that any number of processes, and a
scoring that was interrupted and resumed, compute the same numbers in the same order. The processes
take turns with the stripes; the main process receives all scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from common.inference.pair_grid import PairGrid
from common.inference.partial_scores import Scores
from common.inference.protein_states import ProteinStates, encode_proteins
from common.inference.score_journal import ScoreJournal
from common.inference.scoring import check_finite
from common.inference.scoring_job import ScoringJob
from common.long_work import LongWork
from common.models.ragged import HostInts, cut

# Blocks are larger by this factor if the model scores whole grids.
GRIDS = 4


class ScoredPairs(NamedTuple):
    """Scored pairs: their proteins and their logits.

    Attributes:
        first: (M,) the first protein of each pair.
        second: (M,) the second protein.
        logits: (M,) the model's outputs.
    """

    first: HostInts
    second: HostInts
    logits: Scores

    def select(self, which: NDArray[np.bool_] | HostInts | slice) -> ScoredPairs:
        """Return the pairs that a mask, indices or a slice selects."""
        return ScoredPairs(self.first[which], self.second[which], self.logits[which])


def score_grid(job: ScoringJob, grid: PairGrid, journal: ScoreJournal) -> Iterator[ScoredPairs]:
    """Score all pairs of a grid; every process must iterate, only the main process gets scores.

    Args:
        job: The model and the embeddings of the proteins, by number.
        grid: The pairs.
        journal: Contains the stripes of an interrupted scoring; new stripes are appended.
    """
    stripes = plan_stripes(job, grid)
    main = job.accelerator.is_main_process
    with LongWork(job.describe, grid.count, "pairs", main, journal.pairs) as work:
        for piece, logits in zip(stripes, journal.read(), strict=False):
            yield ScoredPairs(*grid.pairs(piece), logits)
        for piece, logits in _score_stripes(job, grid, stripes, journal.stripes):
            work.advance(len(logits))
            check_finite(logits)  # on every process, so that all of them stop
            if main:
                journal.append(logits)
                yield ScoredPairs(*grid.pairs(piece), logits)


def plan_stripes(job: ScoringJob, grid: PairGrid) -> list[slice]:
    """Divide the rows into stripes, whose height makes the blocks of a stripe about square."""
    lengths = job.state_lengths
    if not len(grid.rows) or not len(grid.columns):
        return []
    mean = (lengths[grid.rows].mean() + lengths[grid.columns].mean()) / 2
    return cut(lengths[grid.rows], max(1, round(math.sqrt(block_residues(job) * mean / 2))))


def block_residues(job: ScoringJob) -> int:
    """Return the maximum number of residues in a block, larger if the model scores whole grids."""
    return job.tile_residues * (GRIDS if job.model.scores_grids else 1)


def _score_stripes(
    job: ScoringJob, grid: PairGrid, stripes: list[slice], done: int
) -> Iterator[tuple[slice, Scores]]:
    """Score the stripes from number `done` on; yield each with its logits on every process."""
    if done == len(stripes):
        return
    processes, rank = job.accelerator.num_processes, job.accelerator.process_index
    with job.inferring():
        left = np.unique(np.concatenate([grid.rows[stripes[done].start :], grid.columns]))
        states = encode_proteins(job, np.unique(np.concatenate([grid.rows, grid.columns])), left)
    for first in range(done, len(stripes), processes):
        turns = stripes[first : first + processes]
        own: list[Scores] = []
        if rank < len(turns):
            # Not around the whole loop, because the caller's code runs between the stripes.
            with job.inferring():
                own = [_score_stripe(job, states, grid, turns[rank])]
        scored = gather_object(own) if processes > 1 else own
        yield from zip(turns, scored, strict=True)


def _score_stripe(job: ScoringJob, states: ProteinStates, grid: PairGrid, piece: slice) -> Scores:
    """Compute logits (M,) of the pairs of a stripe, block by block."""
    taken = grid.taken(piece)
    wanted = np.flatnonzero(taken.any(axis=0))
    taken, rows, columns = taken[:, wanted], grid.rows[piece], grid.columns[wanted]
    lengths = states.lengths
    logits = torch.zeros(taken.shape, device=job.accelerator.device)
    sizes = len(rows) * lengths[columns] + lengths[rows].sum()
    for part in cut(sizes, block_residues(job)):
        proteins = np.concatenate([rows, columns[part]])
        with job.explaining_memory(f"scoring {taken[:, part].sum()} pairs", np.unique(proteins)):
            _score_block(job, states, proteins, taken[:, part], logits[:, part])
    scores: Scores = logits.cpu().numpy()[taken]
    return scores


def _score_block(
    job: ScoringJob,
    states: ProteinStates,
    proteins: HostInts,
    taken: NDArray[np.bool_],
    logits: Tensor,
) -> None:
    """Compute in place the logits (h, w) of marked pairs; `proteins` lists the rows first."""
    if job.model.scores_grids:
        logits[:] = job.model.interact_grid(states.gather(proteins, job.model), len(taken)).float()
        return
    row, column = np.nonzero(taken)
    pairs = np.stack([row, column + len(taken)], axis=1)
    rows = states.gather(proteins, job.model)
    scores = job.model.interact_rows(rows, states.lengths[proteins], pairs).float()
    logits[torch.from_numpy(row), torch.from_numpy(column)] = scores
