"""Create the accelerator, with the device, precision and processes that the launcher configured."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed
import transformers
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    InitProcessGroupKwargs,
)
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import register_rendezvous_handler, rendezvous

from common.command_line import global_rank, stop_without
from common.config import Config
from common.errors import UserError
from common.rank_watch import RankLostError, keys_of_this_start, watch_ranks
from common.run import LOGGER, format_event

# How long ranks wait for a rank that downloads a model or computes its part of the embeddings.
PATIENCE = datetime.timedelta(hours=2)

SHARDING = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)
MIXED = {"fp16": torch.float16, "bf16": torch.bfloat16}

_GROUPS: list[object] = []


def _meet(url: str, timeout: datetime.timedelta) -> Iterator[tuple[Store, int, int]]:
    """Yield the key-value store in which the ranks find each other, the rank, and their number.

    After a restart (`accelerate launch --max_restarts`), the launcher's store still contains the
    addresses of the old processes. So each start needs keys of its own: a rank that starts earlier
    than another would otherwise read the old address of the other, and fail to connect.
    """
    for store, rank, ranks in rendezvous(url.replace(MEETING, "env", 1), timeout=timeout):
        yield PrefixStore(keys_of_this_start(), store), rank, ranks


MEETING = "relic"
register_rendezvous_handler(MEETING, _meet)


def start_accelerator(config: Config) -> Accelerator:
    """Create the process's accelerator and check it against the launcher's configuration.

    Raises:
        UserError: Not all started processes take part (each would act as the main process and
            overwrite the others' files), or the launcher splits models across devices.
    """
    promised = int(os.environ.get("WORLD_SIZE", "1"))
    watch_ranks(global_rank(), promised, config.run.rank_timeout_seconds, _stop)
    try:
        accelerator = Accelerator(
            # Without this, two CPU processes become two independent processes of rank 0.
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=config.training.gradient_accumulation_steps,
            log_with=list(config.run.trackers) or None,  # an empty list makes accelerate warn
            # Some trackers already need a directory here; each run sets another one later.
            project_dir=config.run.output_dir,
            kwargs_handlers=[
                InitProcessGroupKwargs(init_method=f"{MEETING}://", timeout=PATIENCE),
                # The buffers (the inputs' statistics) are constants, so each rank has a copy.
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
    except (ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the processes cannot start: {reason}; see accelerate_configs/") from None
    if accelerator.distributed_type in SHARDING:
        raise UserError(
            f"distributed_type {accelerator.distributed_type.value} splits the model across"
            " devices, which is not supported (the model easily fits on one device); use a file of"
            " accelerate_configs/, or run `accelerate config` and choose neither DeepSpeed nor FSDP"
        )
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


def _stop(sentence: str) -> None:
    """Log that another rank is lost, and end this process."""
    LOGGER.error(format_event("stage_failed", rank=global_rank(), reason=sentence))
    stop_without(RankLostError(sentence))


def hold_group(group: object) -> None:
    """Keep a process group alive until the process exits.

    If a model under DDP holds the last reference to its group, deleting the model waits, with the
    interpreter's lock held, for a thread that may itself be waiting for that lock: a deadlock.
    """
    _GROUPS.append(group)


def computing_dtype(accelerator: Accelerator) -> torch.dtype:
    """Return the dtype of matrix products under the launcher's precision."""
    return MIXED.get(accelerator.mixed_precision, torch.float32)


class Agreement:
    """Checks whether a condition holds on any process, over the host network and not the GPUs."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._together = accelerator.num_processes > 1
        self._group: torch.distributed.ProcessGroup | None = None
        if self._together and torch.distributed.get_backend() != "gloo":
            # A process group over the host network, besides the group of the GPUs.
            self._group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
            hold_group(self._group)

    def any(self, own: bool) -> bool:
        """Return whether `own` is true on any process; every process must call this."""
        if not self._together:
            return own
        answer = torch.tensor([int(own)])
        torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX, self._group)
        return bool(answer)
