"""The loss of pairs, which training and validation share."""

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
    """Binary cross-entropy on logits with a weight for positives and label smoothing.

    With smoothing s, a label y becomes y (1 - s) + s / 2 (Szegedy et al. 2016, for two classes).
    """

    settings: LossConfig

    def per_pair(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss (B,) of each pair, in float32."""
        smoothing = self.settings.label_smoothing
        targets = labels.float() * (1 - smoothing) + smoothing / 2
        # Created on the device, because copying it there would make the host wait.
        weight = torch.full((), self.settings.pos_weight, device=logits.device)
        return binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=weight, reduction="none"
        )

    def mean(self, logits: Tensor, labels: Tensor) -> float:
        """Compute the mean loss of pairs that are all on this process, summed in float64."""
        return float(self.per_pair(logits, labels).double().mean())


def share_of_global_mean(losses: Tensor, batch: PairBatch, accelerator: Accelerator) -> Tensor:
    """Scale this rank's loss so that averaged gradients belong to the mean over all ranks' pairs.

    DDP averages gradients over processes. Multiplied by the number of processes and divided by the
    number of pairs on all of them, the local sums average to the mean over all pairs of the round,
    however unequal the ranks' shares are.

    Args:
        losses: (B,) of this rank's pairs.
        batch: The pairs' weights and the round's number of pairs.
        accelerator: Gives the number of processes.
    """
    scale = float(accelerator.num_processes / batch.total)
    return (losses * batch.weights).sum() * scale
