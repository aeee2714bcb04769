"""The event `model_ready`, the same in the three scripts."""

from __future__ import annotations

from common.launch import computing_dtype
from common.models import PairModel
from common.run import Run


def report_ready(run: Run, model: PairModel, **more: object) -> None:
    """Log that a model is about to be used, how large it is, and how it computes attention."""
    accelerator = run.accelerator
    path = model.attention_path(accelerator.device, computing_dtype(accelerator))
    name, parameters = run.config.model.model, model.num_parameters()
    run.event("model_ready", model=name, parameters=parameters, attention=path, **more)
