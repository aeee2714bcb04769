"""Online hard example mining (Shrivastava et al. 2016): train on the pairs the model gets wrong.

Every step draws a pool of `pool_multiplier` x batch_size pairs at the natural class ratio, scores
it without gradients, and keeps the `keep_ratio` x batch_size hardest, over all processes together:
every rank gathers all losses and makes the same choice, so two processes train on what one would.
An epoch of pools still visits every pair once; it has `pool_multiplier` times fewer steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from common.config import SamplingConfig
from common.data.batches import PairBatch
from common.data.tables.pairs import PairTable
from common.models.base import PairModel
from common.training.losses import PairLoss


@dataclass(frozen=True)
class Miner:
    """Chooses the hardest pairs of a pool.

    Attributes:
        settings: How many to keep and how often a protein may be among them.
        table: All training pairs: a row number tells the proteins of a pair on another rank.
        loss: Hardness is the training loss itself.
        accelerator: For the precision and the exchange between ranks.
    """

    settings: SamplingConfig
    table: PairTable
    loss: PairLoss
    accelerator: Accelerator

    def mine(self, model: PairModel, pool: PairBatch) -> PairBatch:
        """The kept part of this rank's pool; `model` is the unwrapped model."""
        rows, losses = self._gather_losses(pool, self._score(model, pool))
        kept = choose_hardest(losses, self.table.pairs[rows], self._keep_count(pool), self.settings)
        mask = torch.from_numpy(np.isin(pool.rows.cpu().numpy(), rows[kept]))
        return pool.keep(mask.to(pool.rows.device) & (pool.weights > 0), total=len(kept))

    def _keep_count(self, pool: PairBatch) -> int:
        share = self.settings.keep_ratio / self.settings.pool_multiplier
        return min(max(round(share * pool.total), self.settings.min_keep), pool.total)

    def _score(self, model: PairModel, pool: PairBatch) -> Tensor:
        model.train(False)
        with torch.no_grad(), self.accelerator.autocast():
            logits = model(pool.proteins, pool.lengths, pool.pairs).logits
        model.train()
        return self.loss.per_pair(logits, pool.labels)

    def _gather_losses(
        self, pool: PairBatch, losses: Tensor
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Row numbers and losses of the whole pool, sorted by row, the same on every rank."""
        # Shares differ by at most one pair; stand-ins and fillers carry the row -1.
        size = -(-pool.total // self.accelerator.num_processes)
        own = torch.full((max(size, 1), 2), -1.0, dtype=torch.float64, device=losses.device)
        rows = torch.where(pool.weights > 0, pool.rows, torch.full_like(pool.rows, -1))
        own[: len(rows), 0], own[: len(rows), 1] = rows.double(), losses.double()
        gathered = self.accelerator.gather(own).cpu().numpy()
        gathered = gathered[gathered[:, 0] >= 0]
        gathered = gathered[np.argsort(gathered[:, 0])]
        return gathered[:, 0].astype(np.int64), gathered[:, 1]


def choose_hardest(
    losses: NDArray[np.float64], pairs: NDArray[np.int64], count: int, settings: SamplingConfig
) -> NDArray[np.int64]:
    """Positions of the `count` pairs of highest loss, hardest first.

    No protein is taken more than `cap_protein` times (a self-pair counts once), as long as
    `min_keep` pairs are found that way; short of them, the cap gives way to the hardest left out.

    Args:
        losses: (N,) loss of each pair of the pool; NaN counts as the hardest of all, so that it
            is trained on and stops the run instead of being left out in silence.
        pairs: (N, 2) its proteins.
        count: How many to keep.
        settings: The cap and the least number.
    """
    hardest = np.argsort(-np.nan_to_num(losses, nan=np.inf), kind="stable")
    if settings.cap_protein is None:
        return hardest[:count]
    taken: list[int] = []
    passed: list[int] = []
    uses: dict[int, int] = {}
    for position in hardest.tolist():
        if len(taken) == count:
            break
        proteins = set(pairs[position].tolist())
        if any(uses.get(protein, 0) >= settings.cap_protein for protein in proteins):
            passed.append(position)
            continue
        taken.append(position)
        for protein in proteins:
            uses[protein] = uses.get(protein, 0) + 1
    taken += passed[: max(0, min(settings.min_keep, count) - len(taken))]
    return np.array(taken, dtype=np.int64)
