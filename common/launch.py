"""The process's accelerator: device, precision and ranks as the launcher set them up."""

from __future__ import annotations

import datetime
import os

import torch
import torch.distributed
import transformers
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs

from common.config import Config
from common.errors import UserError

# How long ranks wait for one that downloads a model or finishes its share of the embeddings.
PATIENCE = datetime.timedelta(hours=2)

SHARDING = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)

_GROUPS: list[object] = []


def start_accelerator(config: Config) -> Accelerator:
    """The process's accelerator, checked against what the launcher promised.

    Raises:
        UserError: The launcher started more processes than take part (they would all believe to
            be the main one and overwrite each other), or shards models.
    """
    try:
        accelerator = Accelerator(
            # Without this, two CPU processes come up as two independent "rank 0"s.
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=config.training.gradient_accumulation_steps,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except (ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the processes cannot start: {reason}; see accelerate_configs/") from None
    if accelerator.distributed_type in SHARDING:
        raise UserError(
            f"distributed_type {accelerator.distributed_type.value} shards the model, which fits a"
            " device many times over; use a file of accelerate_configs/, or answer `accelerate"
            " config` without DeepSpeed and FSDP"
        )
    promised = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != promised:
        raise UserError(
            f"the launcher started {promised} processes but only {accelerator.num_processes} take"
            " part; use a file of accelerate_configs/ (cpu_2proc.yaml shows how two CPU processes"
            " are launched) or run `accelerate config`"
        )
    if torch.distributed.is_initialized():
        hold_group(torch.distributed.group.WORLD)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return accelerator


def hold_group(group: object) -> None:
    """Keep a process group until the process has gone.

    Where a model under DDP is the last that holds its group, letting go of the model waits, with
    the interpreter's lock held, for a thread that may be waiting for that lock: forever.
    """
    _GROUPS.append(group)


class Agreement:
    """Lets the processes agree on a yes or no, on the hosts: no GPU is waited for."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._together = accelerator.num_processes > 1
        self._group: torch.distributed.ProcessGroup | None = None
        if self._together and torch.distributed.get_backend() != "gloo":
            # A way to talk beside the one between GPUs.
            self._group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
            hold_group(self._group)

    def any(self, own: bool) -> bool:
        """Whether it holds on any process; every process must ask."""
        if not self._together:
            return own
        answer = torch.tensor([int(own)])
        torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX, self._group)
        return bool(answer)
