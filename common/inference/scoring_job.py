"""A scoring job: a model, pairs and settings, and the sizes that are derived from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator

from common.config import ScoringConfig
from common.data.batches import PairData
from common.launch import computing_dtype
from common.long_work import LongWork
from common.memory import explain_out_of_memory
from common.models.base import PairModel
from common.models.ragged import HostInts

GIB = 2**30
CPU_MEMORY_GIB = 4.0
GPU_SHARE = 0.8
# Tiles large enough to use a device fully, but small enough to need little memory.
CPU_TILE, GPU_TILE = 2**14, 2**16
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ScoringJob:
    """A model, the pairs to score with it, and the settings of the scoring.

    Attributes:
        model: The unwrapped model.
        data: Pairs and embeddings.
        settings: Sizes of tiles and of the memory for states.
        accelerator: The processes, the device and the precision.
        describe: The name of the work in progress bars and `progress` events.
    """

    model: PairModel
    data: PairData
    settings: ScoringConfig
    accelerator: Accelerator
    describe: str

    @cached_property
    def state_lengths(self) -> HostInts:
        """(P,) the number of rows of each protein's state."""
        return self.model.state_lengths(self.data.protein_lengths)

    @property
    def tile_residues(self) -> int:
        """The maximum number of residues that are encoded, or scored in pairs, at the same time."""
        if self.settings.tile_residues != "auto":
            return self.settings.tile_residues
        return GPU_TILE if self.accelerator.device.type == "cuda" else CPU_TILE

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of stored states; by default the dtype in which the model computes."""
        if self.settings.state_dtype != "auto":
            return DTYPES[self.settings.state_dtype]
        return computing_dtype(self.accelerator)

    @property
    def state_bytes(self) -> float:
        """The memory for states in bytes: half of the scoring memory; tiles use the other half."""
        if self.settings.memory_gib != "auto":
            return self.settings.memory_gib * GIB / 2
        device = self.accelerator.device
        if device.type == "cuda":
            return torch.cuda.get_device_properties(device).total_memory * GPU_SHARE / 2
        return CPU_MEMORY_GIB * GIB / 2

    @contextlib.contextmanager
    def inferring(self) -> Iterator[None]:
        """Run a block with the model in eval mode, without gradients, in the job's precision."""
        was_training = self.model.training
        self.model.train(False)
        try:
            with torch.inference_mode(), self.accelerator.autocast():
                yield
        finally:
            self.model.train(was_training)

    def explaining_memory(self, task: str, proteins: HostInts) -> AbstractContextManager[None]:
        """Convert an out-of-memory error within a block to a `UserError` about these proteins."""
        remedy = (
            "lower evaluate.scoring.tile_residues (now"
            f" {self.tile_residues}) or evaluate.scoring.memory_gib"
        )
        return explain_out_of_memory(task, self.data.protein_lengths[proteins], remedy)

    def progress(self, total: int, unit: str) -> LongWork:
        """Create the progress report of all processes' work, which the main process shows."""
        return LongWork(self.describe, total, unit, shown=self.accelerator.is_main_process)
