"""The registry of pair models: one file per architecture, found by the name it registers.

A new architecture is one new file in this folder: a `PairModelConfig` with a `model_type`, a
`PairModel` with that `config_class`, and `@register("name")` above the model; and its line in
`common/registry.py`. It then exists for `model_config.model`, and for
`transformers.AutoModel.from_pretrained` on its checkpoints.
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
    """Make a model class known by a name, here and to transformers' Auto classes."""

    def add(model_class: Model) -> Model:
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        MODELS.add(name, model_class)
        return model_class

    return add


def model_class(name: str) -> type[PairModel]:
    """The model class of a registered name.

    Raises:
        UserError: No model has that name.
    """
    chosen: type[PairModel] = MODELS.get(name)
    return chosen


def build_model(settings: ModelConfig, input_dim: int) -> PairModel:
    """A freshly initialised model for embeddings of width `input_dim`."""
    chosen = model_class(settings.model)
    return chosen(chosen.config_class.from_settings(settings, input_dim))


def outline_model(settings: ModelConfig) -> PairModel:
    """The model with the names of its parameters but no numbers (torch's device "meta").

    It takes no memory, and no random number: for checks before anything else is done.
    """
    with torch.device("meta"):
        return build_model(settings, input_dim=settings.d_model)
