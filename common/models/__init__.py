"""The registry of pair models: one file per architecture, found by the name it registers.

A new architecture is one new file in this folder: a `PairModelConfig` with a `model_type`, a
`PairModel` with that `config_class`, and `@register("name")` above the model. It then exists for
`model_config.model`, and for `transformers.AutoModel.from_pretrained` on its checkpoints.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

import torch
from transformers import AutoConfig, AutoModel

from common.config import ModelConfig
from common.errors import UserError
from common.models.base import PairModel, PairModelConfig, PairOutput

__all__ = ["PairModel", "PairModelConfig", "PairOutput", "build_model", "known_models", "register"]

_REGISTRY: dict[str, type[PairModel]] = {}

Model = TypeVar("Model", bound=type[PairModel])


def register(name: str) -> Callable[[Model], Model]:
    """Make a model class known by a name, here and to transformers' Auto classes."""

    def add(model_class: Model) -> Model:
        config_class = model_class.config_class
        AutoConfig.register(config_class.model_type, config_class)
        AutoModel.register(config_class, model_class)
        _REGISTRY[name] = model_class
        return model_class

    return add


def known_models() -> dict[str, type[PairModel]]:
    """All registered models by name; importing the files of this folder registers theirs."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def model_class(name: str) -> type[PairModel]:
    """The model class of a registered name.

    Raises:
        UserError: No model has that name.
    """
    models = known_models()
    if name not in models:
        raise UserError(
            f"model_config.model: there is no model '{name}'; known are {', '.join(models)}"
        )
    return models[name]


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
