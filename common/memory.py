"""Report a batch that does not fit into memory, and return freed memory to the system."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import UserError

# PyTorch raises a plain RuntimeError if the host runs out of memory.
_HOST_IS_FULL = "can't allocate memory"

RETURN_EVERY = 10.0  # seconds


@contextlib.contextmanager
def explain_out_of_memory(task: str, lengths: NDArray[np.int64], remedy: str) -> Iterator[None]:
    """Convert an out-of-memory error within this block to a `UserError` that names a remedy.

    Args:
        task: What the block does, such as "training on 32 pairs".
        lengths: The number of residues of each protein involved.
        remedy: Which settings to change, and how.

    Raises:
        UserError: Memory ran out, on the device or on the host.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise UserError(_describe(task, lengths, remedy), own=True) from None
    except RuntimeError as error:
        if _HOST_IS_FULL not in str(error):
            raise
        raise UserError(_describe(task, lengths, remedy), own=True) from None


def _describe(task: str, lengths: NDArray[np.int64], remedy: str) -> str:
    return (
        f"out of memory while {task} with {len(lengths)} proteins of {lengths.min()} to"
        f" {lengths.max()} residues, {lengths.sum()} in all; {remedy}"
    )


@dataclass
class FreedMemory:
    """Returns freed memory to the system at regular intervals, if glibc manages the heap.

    Every batch has a different shape, so freed tensors leave holes in the heap into which later
    tensors do not fit: a training run that needed 0.5 GiB between its steps grew to 8 GiB.
    Returning the holes after every step took a third of the run time; returning them every ten
    seconds takes about a hundredth.
    """

    returned_at: float = field(default_factory=time.monotonic)

    def give_back(self) -> None:
        """Return freed memory if `RETURN_EVERY` seconds have passed since the last time."""
        if time.monotonic() - self.returned_at > RETURN_EVERY:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            self.returned_at = time.monotonic()
