"""torch.compile for those who ask accelerate for it: `--dynamo_backend inductor`, or its config.

Batches here are ragged, no two of the same shape: compiled as a whole, a model would be compiled
anew for nearly every one. So only what treats each row alone is compiled, with the number of rows
left open, once for all batches; attention has kernels of its own.
"""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import DynamoBackend

from common.models import PairModel


def compile_rows(model: PairModel, accelerator: Accelerator) -> int:
    """Compile the row-wise parts of an unwrapped model in place, if accelerate was asked to.

    Returns:
        How many parts; accelerate itself then compiles nothing.
    """
    plugin = accelerator.state.dynamo_plugin
    if plugin.backend == DynamoBackend.NO:
        return 0
    options = {**plugin.to_kwargs(), "dynamic": True}
    parts = [module for module in model.modules() if isinstance(module, model.row_wise)]
    for part in parts:
        part.compile(**options)
    plugin.backend = DynamoBackend.NO
    return len(parts)
