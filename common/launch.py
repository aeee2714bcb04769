"""The process's accelerator: device, precision and ranks as the launcher set them up."""

from __future__ import annotations

import datetime
import os

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from common.config import Config
from common.errors import UserError

# How long ranks wait for one that downloads a model or finishes its share of the embeddings.
PATIENCE = datetime.timedelta(hours=2)


def start_accelerator(config: Config) -> Accelerator:
    """The process's accelerator, checked against what the launcher promised.

    Raises:
        UserError: The launcher started more processes than take part (they would all believe to
            be the main one and overwrite each other).
    """
    try:
        accelerator = Accelerator(
            # Without this, two CPU processes come up as two independent "rank 0"s.
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=config.training.gradient_accumulation_steps,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the processes cannot start: {reason}; see accelerate_configs/") from None
    promised = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != promised:
        raise UserError(
            f"the launcher started {promised} processes but only {accelerator.num_processes} take"
            " part; use a file of accelerate_configs/ (cpu_2proc.yaml shows how two CPU processes"
            " are launched) or run `accelerate config`"
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return accelerator
