"""The event `model_ready`, the same in the three scripts."""

from __future__ import annotations

from pathlib import Path

from common.launch import computing_dtype
from common.models import PairModel
from common.run import Run


def report_ready(
    run: Run, model: PairModel, checkpoint: Path | None = None, **more: object
) -> None:
    """Log that a model is about to be used, how large it is, and how it computes attention."""
    accelerator = run.accelerator
    path = model.attention_path(accelerator.device, computing_dtype(accelerator))
    fields = {
        "model": run.config.model.model,
        "parameters": model.num_parameters(),
        "attention": path,
        "checkpoint": checkpoint,
    }
    if checkpoint is None:
        del fields["checkpoint"]
    run.event("model_ready", **fields, **more)
