"""The baseline that every result needs: mean of residues, symmetric features, an MLP.

A pair of protein means u, v becomes (|u - v|, u * v, u + v), which does not know which came first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.models import register
from common.models.base import PairHead, PairModel, PairModelConfig


class PooledConfig(PairModelConfig):
    """The shared hyperparameters are all that the baseline needs."""

    model_type = "relic-pooled"


@register("pooled")
class PooledModel(PairModel):
    """Mean-pooled residues and a symmetric perceptron."""

    config_class = PooledConfig
    pools_residues = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        self.head = PairHead(3 * config.input_dim, config)
        self.post_init()  # type: ignore[no-untyped-call]

    def encode(self, proteins: Tensor, lengths: Tensor) -> Tensor:
        """The mean over real residues, (U, 1, D)."""
        residues = self.standardize(proteins)
        positions = torch.arange(residues.shape[1], device=residues.device)
        real = (positions < lengths[:, None]).to(residues)[..., None]
        return (residues * real).sum(1, keepdim=True) / lengths[:, None, None].to(residues)

    def interact(
        self, states_a: Tensor, lengths_a: Tensor, states_b: Tensor, lengths_b: Tensor
    ) -> Tensor:
        """Logits (B,) of B pairs of protein means (B, 1, D)."""
        a, b = states_a[:, 0], states_b[:, 0]
        logits: Tensor = self.head(torch.cat([(a - b).abs(), a * b, a + b], dim=-1))
        return logits
