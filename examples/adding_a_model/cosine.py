"""A model that is defined outside the package: the cosine of two projected protein means.

    export PYTHONPATH=.
    python examples/adding_a_model/cosine.py pretrain.py --config configs/demo_pooled.yaml \
      --set model_config.model=cosine training_config.epochs=1

This command registers the model, and then runs `pretrain.py` with the rest of the command line.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from common.config import ModelConfig
from common.models import register
from common.models.base import MeanModel, PairModelConfig
from common.models.ragged import HostInts, to_device


class CosineConfig(PairModelConfig):
    """The hyperparameters of every pair model, and the width of the projection."""

    model_type = "example-cosine"  # How transformers recognizes a checkpoint of this model.
    width: int = 64

    @classmethod
    def own_settings(cls, settings: ModelConfig) -> dict[str, Any]:
        """Take the width from `model_config.d_model`."""
        return {"width": settings.d_model}


@register("cosine")  # The name for `model_config.model`.
class CosineModel(MeanModel):
    """Scores a pair by the scaled and shifted cosine of the two projected protein means."""

    config_class = CosineConfig

    def __init__(self, config: CosineConfig) -> None:
        super().__init__(config)
        self.project = nn.Linear(config.input_dim, config.width)
        self.line = nn.Linear(1, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def prepare(self, rows: Tensor) -> Tensor:
        """Project each protein's mean (U, D) to a vector of length 1: (U, width)."""
        return functional.normalize(self.project(rows.to(self.parameter_dtype)), dim=-1)

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute logits (B,) of B pairs of prepared proteins."""
        vectors = rows.to(self.parameter_dtype)
        a, b = vectors[to_device(np.ascontiguousarray(pairs), rows.device)].unbind(1)
        logits: Tensor = self.line((a * b).sum(-1, keepdim=True)).squeeze(-1)
        return logits


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
