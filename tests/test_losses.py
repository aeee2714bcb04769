"""The loss of pairs: by hand, against torch, and its gradient over unequal shares."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from common.config import LossConfig
from common.data.batches import PairBatch
from common.training.losses import PairLoss, share_of_global_mean
from tests.tiny_pairs import make_pairs, whole_batch

LOGITS = torch.tensor([-3.0, -0.5, 0.0, 0.7, 40.0, -40.0])
LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0])


def loss_of(**settings: float) -> PairLoss:
    return PairLoss(LossConfig(**cast(Any, settings)))


def test_plain_loss_is_torchs_own() -> None:
    expected = binary_cross_entropy_with_logits(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(loss_of().per_pair(LOGITS, LABELS), expected, rtol=0, atol=0)


def test_positives_weigh_pos_weight() -> None:
    """By hand: -w log p for a positive, -log(1 - p) for a negative."""
    losses = loss_of(pos_weight=3.0).per_pair(torch.tensor([0.7, 0.7]), torch.tensor([1.0, 0.0]))
    p = 1 / (1 + math.exp(-0.7))
    assert losses.tolist() == pytest.approx([-3 * math.log(p), -math.log(1 - p)], rel=1e-6)


def test_smoothing_moves_both_labels_to_the_middle() -> None:
    """Smoothing 0.2 turns the labels 1 and 0 into 0.9 and 0.1."""
    losses = loss_of(label_smoothing=0.2).per_pair(LOGITS, LABELS)
    targets = torch.where(LABELS == 1, 0.9, 0.1)
    torch.testing.assert_close(
        losses, binary_cross_entropy_with_logits(LOGITS, targets, reduction="none")
    )


def test_smoothing_and_weight_together_by_hand() -> None:
    losses = loss_of(label_smoothing=0.2, pos_weight=3.0).per_pair(
        torch.tensor([0.7]), torch.tensor([0.0])
    )
    p = 1 / (1 + math.exp(-0.7))
    assert losses.item() == pytest.approx(
        -(3 * 0.1 * math.log(p) + 0.9 * math.log(1 - p)), rel=1e-6
    )


def test_half_precision_logits_give_a_float32_loss() -> None:
    """Under bfloat16 autocast the logits are halves; their loss must not be."""
    exact = loss_of().per_pair(LOGITS.bfloat16().float(), LABELS)
    losses = loss_of().per_pair(LOGITS.bfloat16(), LABELS)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, exact)


def test_mean_takes_the_tables_integer_labels() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5])
    expected = [math.log1p(math.exp(2.0)), math.log1p(math.exp(1.0)), math.log1p(math.exp(-0.5))]
    mean = loss_of().mean(logits, torch.tensor([0, 1, 1], dtype=torch.int8))
    assert mean == pytest.approx(sum(expected) / 3, rel=1e-6)


@pytest.mark.parametrize("shares", [[8], [4, 4], [7, 1], [8, 0], [3, 2, 2, 1]])
def test_ranks_together_give_the_gradient_of_the_unions_mean(shares: list[int]) -> None:
    """A local mean is off where the shares are unequal; a rank without a pair adds nothing."""
    data = make_pairs(20)
    weight = torch.randn(4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    union = whole_batch(data, list(range(8)))
    mean = loss_of().per_pair(logits_of(union, weight), union.labels).mean()
    (expected,) = torch.autograd.grad(mean, weight)
    ranks = cast(Accelerator, SimpleNamespace(num_processes=len(shares)))
    gradients: list[Tensor] = []
    for rank, share in enumerate(shares):
        start = sum(shares[:rank])
        batch = whole_batch(data, list(range(start, start + share)) or [0])
        weights = batch.weights if share else torch.zeros(1)
        batch = replace(batch, total=8, weights=weights)
        losses = loss_of().per_pair(logits_of(batch, weight), batch.labels)
        gradients += torch.autograd.grad(share_of_global_mean(losses, batch, ranks), weight)
    # DistributedDataParallel averages over the ranks.
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, rtol=1e-6, atol=1e-7)


def logits_of(batch: PairBatch, weight: Tensor) -> Tensor:
    """A linear model: the product of the proteins' mean residues, weighted."""
    residues = batch.proteins.float().split(batch.lengths.tolist())
    means = torch.stack([protein.mean(0) for protein in residues])
    a, b = batch.pairs.T
    return (means[a] * means[b]) @ weight
