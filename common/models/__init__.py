"""Pair models, one file per architecture, selected by their registered names.

To add a model, write a file in this folder with a `PairModelConfig` that has a `model_type` and a
`PairModel` with that `config_class`, put `@register("name")` above the model, and add its line to
`common/registry.py`. `model_config.model` then accepts the name, and
`transformers.AutoModel.from_pretrained` loads its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from transformers import AutoConfig, AutoModel

from common.config import ModelConfig
from common.models.base import PairModel, PairModelConfig, PairOutput
from common.registry import MODELS

__all__ = ["PairModel", "PairModelConfig", "PairOutput", "build_model", "model_class", "register"]

Model = TypeVar("Model", bound=type[PairModel])


def register(name: str) -> Callable[[Model], Model]:
    """Register a model class under a name, in this program and with transformers' Auto classes."""

    def add(model_class: Model) -> Model:
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        MODELS.add(name, model_class)
        return model_class

    return add


def model_class(name: str) -> type[PairModel]:
    """Return the model class that is registered under a name.

    Raises:
        UserError: There is no model of this name.
    """
    chosen: type[PairModel] = MODELS.get(name)
    return chosen


def build_model(settings: ModelConfig, input_dim: int) -> PairModel:
    """Create a newly initialised model for embeddings of width `input_dim`."""
    chosen = model_class(settings.model)
    return chosen(chosen.config_class.from_settings(settings, input_dim))


def outline_model(settings: ModelConfig) -> PairModel:
    """Create a model whose parameters have names and shapes but no values (device "meta").

    The model needs no memory and draws no random numbers; it is used for checks before any work.
    """
    with torch.device("meta"):
        return build_model(settings, input_dim=settings.d_model)
