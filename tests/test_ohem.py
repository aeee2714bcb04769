"""Mining: which pairs of a pool are kept, by hand, and how many."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.config import LossConfig
from common.config_data import SamplingConfig
from common.data.batches import STAND_IN, RankBatches
from common.models import PairModel
from common.models.base import PairOutput
from common.training.losses import PairLoss
from common.training.ohem import Miner, choose_hardest
from tests.tiny_pairs import make_pairs, one_process, whole_batch

CHAIN = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 4], [5, 6]]


def choose(
    losses: list[float], count: int, pairs: list[list[int]] = CHAIN, **settings: int
) -> list[int]:
    sampling = SamplingConfig(strategy="ohem", **cast(Any, settings))
    chosen: list[int] = choose_hardest(np.array(losses), np.array(pairs), count, sampling).tolist()
    return chosen


def test_the_hardest_come_first() -> None:
    assert choose([0.1, 0.9, 0.3, 0.8, 0.2, 0.7], 3) == [1, 3, 5]
    assert choose([0.1, 0.9, 0.3, 0.8, 0.2, 0.7], 6) == [1, 3, 5, 2, 4, 0]


def test_of_equals_the_first_is_taken() -> None:
    """The pool is sorted by row number, so every process breaks ties alike."""
    assert choose([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 3) == [0, 1, 2]
    assert choose([0.5, 0.5, 0.9, 0.5, 0.5, 0.5], 3, cap_protein=1) == [2, 0, 4]


def test_no_protein_is_taken_more_often_than_the_cap() -> None:
    """By hand over the chain 0-1-2-3-4, cap 1: 1-2 bars 0-1 and 2-3; 3-4 is free; 4-4 is not."""
    losses = [0.8, 0.9, 0.7, 0.6, 0.5, 0.1]
    assert choose(losses, 4, cap_protein=1) == [1, 3, 5]
    assert choose(losses, 2, cap_protein=1) == [1, 3]
    assert choose(losses, 4, cap_protein=2) == [1, 0, 2, 3]


def test_a_self_pair_counts_once() -> None:
    pairs = [[7, 7], [7, 8], [7, 9]]
    assert choose([0.9, 0.8, 0.7], 3, pairs, cap_protein=2) == [0, 1]


def test_short_of_min_keep_the_cap_gives_way_to_the_hardest_left_out() -> None:
    losses = [0.8, 0.9, 0.7, 0.6, 0.5, 0.1]
    assert choose(losses, 5, cap_protein=1, min_keep=4) == [1, 3, 5, 0]
    assert choose(losses, 6, cap_protein=1, min_keep=6) == [1, 3, 5, 0, 2, 4]
    # No more than was asked for, whatever min_keep is.
    assert choose(losses, 2, cap_protein=1, min_keep=6) == [1, 3]


def test_what_is_not_finite_is_hardest() -> None:
    """NaN sorted as the easiest: broken embeddings were left out in silence, run and all."""
    assert choose([0.1, np.nan, 0.3, np.inf, 0.2, 0.7], 2) == [1, 3]


class Fixed(nn.Module):
    """A "model" whose logits are given; remembers whether it was in training mode."""

    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, proteins: Tensor, lengths: Tensor, pairs: Tensor) -> PairOutput:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return PairOutput(logits=self.logits[: len(pairs)])


def mine(pool_size: int, logits: Tensor, **settings: float) -> tuple[list[int], Fixed, Tensor]:
    """Kept rows, the model, and every pair's loss, for a pool of the first rows."""
    data = make_pairs(100)
    rows = list(range(pool_size))[::-1]
    loss = PairLoss(LossConfig())
    sampling = SamplingConfig(strategy="ohem", **cast(Any, settings))
    model = Fixed(logits)
    miner = Miner(sampling, loss, one_process())
    batch = miner.mine(cast(PairModel, model), whole_batch(data, rows), data.table)
    assert batch.total == len(batch.rows)
    assert batch.weights.tolist() == [1.0] * len(batch.rows)
    labels = torch.from_numpy(data.table.labels[rows].astype(np.float32))
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none").detach()
    return batch.rows.tolist(), model, losses


@pytest.mark.parametrize(
    ("pool", "settings", "kept"),
    [
        (16, {"keep_ratio": 0.5}, 8),
        (16, {"keep_ratio": 1.0}, 16),
        (64, {"keep_ratio": 1.0, "pool_multiplier": 4}, 16),
        (64, {"keep_ratio": 0.25, "pool_multiplier": 4}, 4),
        (16, {"keep_ratio": 0.3}, 5),  # 4.8
        (16, {"keep_ratio": 0.1, "min_keep": 6}, 6),
        # The epoch's last pool is smaller: the same share of it, never more than all of it.
        (10, {"keep_ratio": 1.0, "pool_multiplier": 4}, 2),
        (3, {"keep_ratio": 0.1, "min_keep": 6}, 3),
        (1, {"keep_ratio": 0.1}, 1),
    ],
)
def test_how_many_are_kept(pool: int, settings: dict[str, float], kept: int) -> None:
    rows, _, _ = mine(
        pool, torch.randn(pool, generator=torch.Generator().manual_seed(1)), **settings
    )
    assert len(rows) == kept


def test_mining_keeps_the_pairs_of_highest_training_loss() -> None:
    logits = torch.randn(32, generator=torch.Generator().manual_seed(1))
    rows, _, losses = mine(32, logits, keep_ratio=0.5, pool_multiplier=2)
    hardest = {31 - int(i) for i in losses.argsort(descending=True)[:8]}
    assert set(rows) == hardest


def test_the_pool_is_scored_in_eval_mode_without_gradients_and_training_goes_on() -> None:
    _, model, _ = mine(8, torch.zeros(8), keep_ratio=0.5)
    assert model.modes == [(False, False)]
    assert model.training


class OneOfThree:
    """A rank of three; `shares` is what the three give to `gather`, once it is known."""

    num_processes = 3

    def __init__(self, shares: list[Tensor]) -> None:
        self.shares, self.given = shares, torch.empty(0)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def gather(self, share: Tensor) -> Tensor:
        self.given = share
        return torch.cat(self.shares or [share])


def test_a_stand_in_is_not_mined() -> None:
    """Two pairs on three processes: the third rank's stand-in is the hardest pair once more."""
    data = make_pairs(9)
    rows = np.array([4, 7])
    pools = [RankBatches(data, [rows], rank, 3)[0] for rank in range(3)]
    hard = torch.where(torch.tensor(data.table.labels[rows]) > 0, -9.0, 9.0) * torch.tensor(
        [1, 0.1]
    )
    logits = [hard[:1], hard[1:], hard[:1]]
    sampling = SamplingConfig(strategy="ohem")
    shares: list[Tensor] = []
    for _ in range(2):
        ranks = [OneOfThree(shares) for _ in range(3)]
        kept = [
            Miner(sampling, PairLoss(LossConfig()), cast(Any, rank)).mine(
                cast(PairModel, Fixed(logit)), pool, data.table
            )
            for rank, pool, logit in zip(ranks, pools, logits, strict=True)
        ]
        shares = [rank.given for rank in ranks]
    assert [batch.rows.tolist() for batch in kept] == [[4], [7], [STAND_IN]]
    assert [batch.total for batch in kept] == [2, 2, 2]
    assert [batch.weights.tolist() for batch in kept] == [[1.0], [1.0], [0.0]]
