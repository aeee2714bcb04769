"""Score many pairs: encode every protein once, and score every undirected pair once, in tiles.

The contents of a tile or an encoding batch depend on the pairs alone, never on the number of
processes, which only divide the work. So one process and two processes compute the same numbers
from the same tensors, to the last bit, and so does a scoring that was interrupted and resumed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from common.config import ScoringConfig
from common.data.batches import PairData
from common.errors import UserError
from common.inference.partial_scores import PartialScores, Scores, identify
from common.inference.protein_states import ProteinStates, encode_proteins
from common.inference.scoring_job import ScoringJob
from common.inference.tiles import Tiles, plan_tiles
from common.models.base import PairModel
from common.pausing import Paused
from common.run import LOGGER, format_event

SAVE_EVERY = 60.0  # seconds


def score_pairs(
    model: PairModel,
    data: PairData,
    settings: ScoringConfig,
    accelerator: Accelerator,
    describe: str = "scoring",
    partial: PartialScores | None = None,
) -> Scores:
    """Compute the logits (N,) of all pairs of `data`, in the same order, on every process.

    Args:
        model: The unwrapped model; it is put into eval mode meanwhile.
        data: Pairs and embeddings.
        settings: Sizes of tiles and of the memory for states.
        accelerator: The processes, the device and the precision.
        describe: The name of the work in progress bars and `progress` events.
        partial: Where to save the scores of finished tiles, every minute and when a signal ends
            the scoring; a later call with the same model and pairs resumes from the saved scores.
    """
    job = ScoringJob(model, data, settings, accelerator, describe)
    tiles = plan_tiles(data.table.pairs, job.state_lengths, job.tile_residues)
    sheet = ScoreSheet(tiles, accelerator)
    if partial is not None:
        sheet.keep_in(partial, identify(job, tiles))
    unscored = sheet.unscored()
    if unscored:
        with job.inferring(), sheet.saving_when_paused():
            states = encode_proteins(job, tiles.proteins(), tiles.proteins(unscored))
            for tile in own_tiles(job, tiles, unscored):
                pairs = tiles.pairs[tiles.slices[tile]]
                with job.explaining_memory(f"scoring {len(pairs)} pairs", np.unique(pairs)):
                    sheet.enter(tile, score_tile(model, states, pairs))
    return sheet.complete(unscored)[tiles.places]


def probabilities(logits: Scores) -> NDArray[np.float64]:
    """Convert logits to float64 probabilities; in float32 the highest probabilities would be equal.

    Raises:
        UserError: A logit is not finite.
    """
    check_finite(logits)
    scores: NDArray[np.float64] = expit(logits.astype(np.float64))
    return scores


def check_finite(logits: Scores) -> None:
    """Check that all logits of a model are finite.

    Raises:
        UserError: A logit is not finite.
    """
    unusable = int(np.count_nonzero(~np.isfinite(logits)))
    if unusable:
        raise UserError(
            f"the model's scores of {unusable} of {len(logits)} pairs are not finite; launch"
            " without fp16 and with evaluate.scoring.state_dtype: auto, or train the model again"
        )


def score_tile(model: PairModel, states: ProteinStates, pairs: NDArray[np.int64]) -> Tensor:
    """Compute logits (B,) of the pairs (B, 2) of one tile, on the model's device."""
    proteins, numbers = np.unique(pairs, return_inverse=True)
    rows = states.gather(proteins, model)
    return model.interact_rows(rows, states.lengths[proteins], numbers.reshape(-1, 2)).float()


def own_tiles(job: ScoringJob, tiles: Tiles, unscored: Sequence[int]) -> Iterator[int]:
    """Yield this process's tiles in random order, and show the progress of all processes."""
    accelerator = job.accelerator
    own = tiles.deal(unscored, accelerator.num_processes)[accelerator.process_index]
    sizes = [len(tiles.pairs[piece]) for piece in tiles.slices]
    total, share = sum(sizes[tile] for tile in unscored), sum(sizes[tile] for tile in own)
    with job.progress(total, "pairs") as work:
        done = 0
        # In random order the speed is constant, so the estimated time left is right.
        for tile in np.random.default_rng(0).permutation(np.array(own, dtype=np.int64)).tolist():
            yield tile
            done += sizes[tile]
            work.advance(round(total * done / share) - work.done)


@dataclass
class ScoreSheet:
    """The logits of the planned pairs, known from an earlier run or computed by this process.

    Attributes:
        tiles: The plan.
        accelerator: The processes.
        known: (M,) logits on the host, NaN where no process has scored the pair yet.
        added: (M,) logits of this process on its device, zero elsewhere.
        partial: Where to save the logits, if at all.
        unsaved: The tiles added since the logits were last saved.
        saved_at: The time when the logits were last saved.
    """

    tiles: Tiles
    accelerator: Accelerator
    known: Scores = field(init=False)
    added: Tensor = field(init=False)
    partial: PartialScores | None = None
    unsaved: list[int] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        count = len(self.tiles.pairs)
        self.known = np.full(count, np.nan, dtype=np.float32)
        self.added = torch.zeros(count, device=self.accelerator.device)

    def keep_in(self, partial: PartialScores, identity: str) -> None:
        """Load the logits that this scoring saved in `partial` before; save new logits there."""
        self.known, self.partial = partial.load(identity, len(self.known)), partial
        kept = int(np.isfinite(self.known).sum())
        if kept:
            LOGGER.info(format_event("scoring_resumed", pairs_kept=kept, of_pairs=len(self.known)))

    @contextmanager
    def saving_when_paused(self) -> Iterator[None]:
        """Save the logits added so far if a signal interrupts this block."""
        try:
            yield
        except Paused:
            self.save()
            raise

    def unscored(self) -> list[int]:
        """List the tiles that contain a pair without a known logit."""
        unknown = np.isnan(self.known)
        return [i for i, piece in enumerate(self.tiles.slices) if unknown[piece].any()]

    def enter(self, tile: int, logits: Tensor) -> None:
        """Add the logits of a tile, and save the new logits once a minute."""
        self.added[self.tiles.slices[tile]] = logits
        self.unsaved.append(tile)
        if self.partial is not None and time.monotonic() - self.saved_at > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Save the logits that this process has added, if `partial` is set."""
        if self.partial is None:
            return
        added = self.added.cpu().numpy()
        for tile in self.unsaved:
            self.known[self.tiles.slices[tile]] = added[self.tiles.slices[tile]]
        self.partial.save(self.known)
        self.unsaved, self.saved_at = [], time.monotonic()

    def complete(self, unscored: Sequence[int]) -> Scores:
        """Combine the logits (M,) of all processes; every process must call this."""
        self.save()
        # Every pair was scored by one process and is zero on the others, so their sum is exact.
        total = self.accelerator.reduce(self.added, reduction="sum").cpu().numpy()
        for tile in unscored:
            self.known[self.tiles.slices[tile]] = total[self.tiles.slices[tile]]
        return self.known
