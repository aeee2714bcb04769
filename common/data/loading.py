"""Loads batches in worker processes, whose number is limited by the size of the shared memory.

Workers pass batches through shared memory, of which a container often has only 64 MB. A worker that
finds the shared memory full must report this, or the training process would wait for ever.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from common.config_data import DataloaderConfig
from common.data.batches import PairBatch, RankBatches
from common.errors import UserError
from common.pausing import PAUSE, hold_signals, outlive_signals
from common.run import LOGGER, format_event

SHARED_MEMORY = Path("/dev/shm")
PREFETCHED = 2  # batches that each worker prepares in advance (PyTorch's default)
IN_USE = 2  # the batch that is trained on, and the next batch, already taken from the queue
# Labels, weights, and the last page of each tensor.
BYTES_PER_BATCH = 1 << 16


class SharedBatches(Dataset[PairBatch]):
    """The batches of one process, moved to shared memory by the worker that loads them.

    PyTorch would move the batches in a background thread, whose errors would be lost.
    """

    def __init__(self, batches: RankBatches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> PairBatch:
        """Return this process's batch in a round, in shared memory if a worker calls this."""
        batch = self.batches[index]
        return batch if get_worker_info() is None else batch.change(Tensor.share_memory_)


def load_batches(
    batches: RankBatches, settings: DataloaderConfig, first: int = 0
) -> Iterator[PairBatch]:
    """Yield the batches of one process, starting with round `first`, loaded by worker processes.

    Raises:
        UserError: The shared memory is full.
        Paused: A signal arrived while the process waited for the next batch.
    """
    workers = settings.num_workers and count_workers(batches, settings.num_workers, first)
    loader: DataLoader[PairBatch] = DataLoader(
        SharedBatches(batches),
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=workers,
        worker_init_fn=outlive_signals,
        pin_memory=settings.pin_memory and torch.cuda.is_available(),
        # Drawing the workers' seeds from the global generator would make a resumed run differ from
        # an uninterrupted one.
        generator=torch.Generator(),
    )
    with hold_signals():
        loaded = iter(loader)
    while (batch := _next_batch(loaded)) is not None:
        yield batch


def _next_batch(loaded: Iterator[PairBatch]) -> PairBatch | None:
    try:
        with PAUSE.waiting_for("a batch"):
            return next(loaded, None)
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        raise UserError(
            f"the data loader's workers filled the shared memory ({SHARED_MEMORY}, {_free_bytes()}"
            " bytes are free); enlarge the shared memory (docker run --shm-size), or lower"
            " data_config.dataloader.num_workers (0 needs no shared memory)",
            own=True,
        ) from None


def count_workers(batches: RankBatches, asked: int, first: int = 0) -> int:
    """Return how many workers fit into shared memory; warn if fewer fit than configured.

    Args:
        batches: The process's batches of an epoch.
        asked: The configured number of workers.
        first: The first round that will be loaded.
    """
    if not SHARED_MEMORY.is_dir():
        return asked
    free = _free_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    largest = np.sort(batches.bytes_of_rounds(first) + BYTES_PER_BATCH)[::-1]
    # The largest batches bound the memory in use at any time, whatever the order of the batches.
    needed = [int(largest[: PREFETCHED * n + IN_USE].sum()) for n in range(asked + 1)]
    workers = max(n for n in range(asked + 1) if n == 0 or needed[n] <= free)
    if workers < asked:
        LOGGER.warning(
            format_event(
                "fewer_workers",
                num_workers=asked,
                used=workers,
                reason=f"{asked} workers need up to {needed[asked]} bytes of shared memory"
                f" ({SHARED_MEMORY}), but each process has {free} bytes; enlarge the shared memory"
                " (docker run --shm-size) for faster loading",
            )
        )
    return workers


def _free_bytes() -> int:
    return shutil.disk_usage(SHARED_MEMORY).free
