"""The loss of pairs, the same for training and validation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from common.config import LossConfig
from common.data.batches import PairBatch


@dataclass(frozen=True)
class PairLoss:
    """Binary cross-entropy on logits, with a weight for positives and smoothed labels.

    A label y becomes y (1 - s) + s / 2 with smoothing s (Szegedy et al. 2016, for two classes).
    """

    settings: LossConfig

    def per_pair(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss (B,) of each pair, in float32."""
        smoothing = self.settings.label_smoothing
        targets = labels.float() * (1 - smoothing) + smoothing / 2
        # Filled where it is needed: copied there, it would make the host wait for a GPU.
        weight = torch.full((), self.settings.pos_weight, device=logits.device)
        return binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=weight, reduction="none"
        )

    def mean(self, logits: Tensor, labels: Tensor) -> float:
        """The mean over pairs that are all here, accumulated in float64."""
        return float(self.per_pair(logits, labels).double().mean())


def share_of_global_mean(losses: Tensor, batch: PairBatch, accelerator: Accelerator) -> Tensor:
    """This rank's loss to call backward on, so that the ranks together get the union's mean.

    DDP averages gradients over processes; scaled by their number, the average of local sums over
    the global count is the gradient of the mean over all pairs of the round, however unequally
    the ranks share them.

    Args:
        losses: (B,) of this rank's pairs.
        batch: Their weights, and how many pairs the round has in all.
        accelerator: Knows the number of processes.
    """
    scale = float(accelerator.num_processes / batch.total)
    return (losses * batch.weights).sum() * scale
