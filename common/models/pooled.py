"""The model pooled, a simple baseline: an MLP on symmetric features of mean residues.

A pair of protein means u, v becomes (|u - v|, u * v, u + v), which is the same in both orders.
"""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from common.models import register
from common.models.base import MeanModel, PairHead, PairModelConfig
from common.models.ragged import HostInts, to_device

# The number of pairs of a grid that are computed at a time, whose features fit into a CPU's cache.
PAIRS = 1024


class PooledConfig(PairModelConfig):
    """The hyperparameters of the model pooled, which all pair models share."""

    model_type = "relic-pooled"


@register("pooled")
class PooledModel(MeanModel):
    """The pair model pooled, an MLP on symmetric features of two proteins' mean residues."""

    config_class = PooledConfig
    scores_grids = True

    def __init__(self, config: PooledConfig) -> None:
        super().__init__(config)
        self.head = PairHead(3 * config.input_dim, config)
        self.post_init()  # type: ignore[no-untyped-call]

    def interact_grid(self, rows: Tensor, first: int) -> Tensor:
        """Compute the logits (h, w) of the first h proteins with each of the w other proteins.

        The first layer is linear, and |u - v| = 2 max(u, v) - u - v. So the terms that are linear
        in u and v are computed once per protein instead of once per pair.
        """
        means = rows.to(self.parameter_dtype)
        layer = cast(nn.Linear, self.head.layers[0])
        distance, product, total = layer.weight.chunk(3, dim=1)
        weight = torch.cat([2 * distance, product], dim=1).T
        alone = means @ (total - distance).T
        own, others = means[:first, None], means[first:]
        alone_own, alone_others = alone[:first, None], alone[first:] + layer.bias
        logits = means.new_empty(first, len(others))
        width = min(PAIRS, max(1, len(others)))
        for row, column in itertools.product(
            range(0, first, PAIRS // width), range(0, len(others), width)
        ):
            a, b = slice(row, row + PAIRS // width), slice(column, column + width)
            pairs = torch.cat([torch.maximum(own[a], others[b]), own[a] * others[b]], dim=2)
            hidden = pairs @ weight + alone_own[a] + alone_others[b]
            logits[a, b] = self.head.layers[1:](hidden).squeeze(-1).to(logits.dtype)
        return logits

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute the logits (B,) of B pairs of proteins from their means."""
        means = rows.to(self.parameter_dtype)
        a, b = means[to_device(np.ascontiguousarray(pairs), rows.device)].unbind(1)
        logits: Tensor = self.head(torch.cat([(a - b).abs(), a * b, a + b], dim=-1))
        return logits
