"""Compile models with torch.compile if the launcher requests it (`--dynamo_backend inductor`).

Batches are ragged, and hardly two have the same shape: a model compiled as a whole would be
recompiled for nearly every batch. So only the methods that process each row independently
(`PairModel.row_wise`) are compiled, once for any number of rows; attention has separate kernels.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend

from common.models import PairModel


def compile_rows(model: PairModel, accelerator: Accelerator) -> int:
    """Compile the row-wise methods of an unwrapped model in place, if the launcher requests it.

    Returns:
        The number of compiled methods. Afterwards accelerate itself compiles nothing.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin.backend == DynamoBackend.NO:
        return 0
    options = {**plugin.to_kwargs(), "dynamic": True}
    methods = [
        (module, name)
        for module in model.modules()
        for name in model.row_wise.get(type(module), ())
    ]
    for module, name in methods:
        setattr(module, name, torch.compile(getattr(module, name), **options))
    plugin.backend = DynamoBackend.NO
    return len(methods)
