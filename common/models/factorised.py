"""The model factorised, which computes a pair's logit from two vectors and a bias per protein.

With the vectors p, q (width d) and the bias b of each protein, the logit of a pair is

    (p_a · q_b + q_a · p_b) / sqrt(d) + b_a + b_b

The logit is the same in both orders, and proteins may prefer or avoid their own kind, which a
single vector per protein (p = q) does not allow. Two products of matrices score a whole proteome.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from common.config import ModelConfig
from common.models import register
from common.models.base import MeanModel, PairHead, PairModelConfig
from common.models.ragged import HostInts, to_device


class FactorisedConfig(PairModelConfig):
    """The hyperparameters that all pair models share, and the width of a protein's vectors."""

    model_type = "relic-factorised"

    d_model: int = 256

    @classmethod
    def own_settings(cls, settings: ModelConfig) -> dict[str, Any]:
        """Return the settings that only this model has: the width of a protein's vectors."""
        return {"d_model": settings.d_model}


@register("factorised")
class FactorisedModel(MeanModel):
    """The pair model factorised, which computes vectors and biases from proteins' mean residues."""

    config_class = FactorisedConfig
    scores_grids = True

    def __init__(self, config: FactorisedConfig) -> None:
        super().__init__(config)
        self.tower = PairHead(config.input_dim, config, 2 * config.d_model + 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def prepare(self, rows: Tensor) -> Tensor:
        """Compute p, q and the bias of each protein, (U, 2 d + 1), from the means (U, D)."""
        vectors: Tensor = self.tower(rows.to(self.parameter_dtype))
        return vectors

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute the logits (B,) of B pairs of proteins from their vectors and biases."""
        width = self.config.d_model
        p, q, bias = rows.float().split([width, width, 1], dim=1)
        a, b = to_device(np.ascontiguousarray(pairs), rows.device).unbind(1)
        products = (p[a] * q[b]).sum(1) + (q[a] * p[b]).sum(1)
        logits: Tensor = products / math.sqrt(width) + (bias[a] + bias[b]).squeeze(1)
        return logits

    def interact_grid(self, rows: Tensor, first: int) -> Tensor:
        """Compute the logits (h, w) of the first h proteins with each of the w other proteins."""
        width = self.config.d_model
        p, q, bias = rows.float().split([width, width, 1], dim=1)
        products = p[:first] @ q[first:].T + q[:first] @ p[first:].T
        logits: Tensor = products / math.sqrt(width) + bias[:first] + bias[first:].T
        return logits
