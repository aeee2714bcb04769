"""Online hard example mining (Shrivastava et al. 2016): train on the pairs the model gets wrong.

Every step draws a pool of `pool_multiplier` x batch_size pairs at the natural class ratio, scores
it without gradients, and keeps the `keep_ratio` x batch_size hardest over all processes. Every rank
gathers all losses and makes the same choice, so two processes train on the same pairs as one
process. An epoch of pools still visits every pair once, in `pool_multiplier` times fewer steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from common.config_data import SamplingConfig
from common.data.batches import STAND_IN, PairBatch
from common.models.base import PairModel
from common.models.ragged import to_device
from common.training.losses import PairLoss

if TYPE_CHECKING:
    from common.data.tables.pairs import PairTable


@dataclass(frozen=True)
class Miner:
    """Chooses the hardest pairs of a pool, those with the highest losses.

    Attributes:
        settings: How many pairs to keep, and how many of them may contain the same protein.
        loss: The training loss, which is the measure of hardness.
        accelerator: Provides the precision and the exchange between ranks.
    """

    settings: SamplingConfig
    loss: PairLoss
    accelerator: Accelerator

    def mine(self, model: PairModel, pool: PairBatch, table: PairTable) -> PairBatch:
        """Keep the pairs of this rank's pool that are among the hardest pairs of all ranks.

        Args:
            model: The unwrapped model.
            pool: This rank's part of the pool.
            table: All pairs of the epoch, to look up the proteins of pairs on other ranks.
        """
        rows, losses = self._gather_losses(pool, self._score(model, pool))
        kept = choose_hardest(losses, table.pairs[rows], self._keep_count(pool), self.settings)
        return pool.keep(rows[kept])

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
        """Gather the whole pool's row numbers and losses, sorted by row and equal on every rank."""
        # Shares differ by at most one pair; the shorter ones are filled up with stand-ins.
        size = max(-(-pool.total // self.accelerator.num_processes), 1)
        rows = np.full(size, STAND_IN, dtype=np.float64)
        rows[: len(pool.rows)] = pool.rows
        own = torch.zeros((size, 2), dtype=torch.float64, device=losses.device)
        own[:, 0] = to_device(rows, losses.device)
        own[: len(losses), 1] = losses.double()
        # Mining waits for the device here and nowhere else: the host makes the choice.
        gathered = self.accelerator.gather(own).cpu().numpy()
        gathered = gathered[gathered[:, 0] != STAND_IN]
        gathered = gathered[np.argsort(gathered[:, 0])]
        return gathered[:, 0].astype(np.int64), gathered[:, 1]


def choose_hardest(
    losses: NDArray[np.float64], pairs: NDArray[np.int64], count: int, settings: SamplingConfig
) -> NDArray[np.int64]:
    """Return the positions of the `count` pairs with the highest losses, hardest first.

    No protein is taken more than `cap_protein` times (a self-pair counts once) as long as
    `min_keep` pairs remain; if fewer do, the hardest of those left out are added despite the cap.

    Args:
        losses: (N,) loss of each pair of the pool. NaN counts as the hardest: the run trains on it
            and stops, instead of leaving it out silently.
        pairs: (N, 2) the proteins of each pair.
        count: How many pairs to keep.
        settings: `cap_protein` and `min_keep`.
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
