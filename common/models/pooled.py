"""The baseline to compare every model with: mean of residues, symmetric features, an MLP.

A pair of protein means u, v becomes (|u - v|, u * v, u + v), which is the same in both orders.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from common.models import register
from common.models.base import MeanModel, PairHead, PairModelConfig
from common.models.ragged import HostInts, to_device


class PooledConfig(PairModelConfig):
    """The hyperparameters that all pair models share, and no others."""

    model_type = "relic-pooled"


@register("pooled")
class PooledModel(MeanModel):
    """Mean-pooled residues and a symmetric perceptron."""

    config_class = PooledConfig

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        self.head = PairHead(3 * config.input_dim, config)
        self.post_init()  # type: ignore[no-untyped-call]

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute logits (B,) of B pairs of protein means."""
        means = rows.to(self.parameter_dtype)
        a, b = means[to_device(np.ascontiguousarray(pairs), rows.device)].unbind(1)
        logits: Tensor = self.head(torch.cat([(a - b).abs(), a * b, a + b], dim=-1))
        return logits
