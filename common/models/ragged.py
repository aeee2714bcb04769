"""Attention over sequences of unequal length, stored without padding as rows laid end to end.

Projections, norms and feed-forward layers treat each row alone and run over all rows at once; only
attention needs to know where a sequence ends. Lengths stay on the host, where shapes are planned,
so nothing here makes the host wait for a device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

HostInts = NDArray[np.int64]

AttentionPath = Literal["varlen", "sdpa", "loop", "none"]

# What the variable-length kernel supports.
KERNEL_DTYPES = (torch.float16, torch.bfloat16)
KERNEL_MAX_WIDTH = 256
KERNEL_CAPABILITY = (8, 0)  # Ampere; older GPUs lack the kernel


@dataclass(eq=False)
class Layout:
    """The division of rows into N sequences, with cached tensors that describe it on a device.

    Attributes:
        lengths: Number of rows of each sequence.
        device: The device of the rows.
    """

    lengths: tuple[int, ...]
    device: torch.device
    _taken: dict[tuple[int, ...], tuple[Layout, Tensor]] = field(default_factory=dict)

    @cached_property
    def offsets(self) -> Tensor:
        """(N + 1,) int32: the first row of each sequence, and the end of the last sequence."""
        return to_device(np.cumsum((0, *self.lengths), dtype=np.int32), self.device)

    @cached_property
    def sequence_of_row(self) -> Tensor:
        """(R,) the sequence that each row belongs to."""
        numbers = np.arange(len(self.lengths), dtype=np.int64)
        return to_device(np.repeat(numbers, self.lengths), self.device)

    @cached_property
    def in_twos(self) -> Layout:
        """The layout in which sequences 2 i and 2 i + 1 are joined into one."""
        both = zip(self.lengths[::2], self.lengths[1::2], strict=True)
        return Layout(tuple(a + b for a, b in both), self.device)

    def taking(self, which: tuple[int, ...]) -> tuple[Layout, Tensor]:
        """Return the layout and the row indices (R',) of selected sequences, in the given order."""
        if which not in self._taken:
            lengths, chosen = np.asarray(self.lengths), np.asarray(which)
            index = row_index((np.cumsum(lengths) - lengths)[chosen], lengths[chosen])
            layout = Layout(tuple(lengths[chosen].tolist()), self.device)
            self._taken[which] = layout, to_device(index, self.device)
        return self._taken[which]


@dataclass(frozen=True, eq=False)
class Ragged:
    """N sequences laid end to end: rows (R, ...) and their layout."""

    rows: Tensor
    layout: Layout

    @cached_property
    def parts(self) -> tuple[Tensor, ...]:
        """The sequences as views of the rows, one view per sequence."""
        # The backward pass of one split is one concatenation; that of N slices would fill N
        # tensors as large as `rows`.
        parts: tuple[Tensor, ...] = self.rows.split(self.layout.lengths)
        return parts

    def to(self, dtype: torch.dtype) -> Ragged:
        """Convert the sequences to another dtype."""
        return Ragged(self.rows.to(dtype), self.layout)

    def take(self, which: tuple[int, ...]) -> Ragged:
        """Return selected sequences, in the given order."""
        if which == tuple(range(len(self.layout.lengths))):
            return self
        if self.rows.is_cuda:
            layout, index = self.layout.taking(which)
            return Ragged(self.rows.index_select(0, index), layout)
        # On a CPU this is faster than indexing, above all in the backward pass.
        lengths = tuple(self.layout.lengths[i] for i in which)
        rows = torch.cat([self.parts[i] for i in which])
        return Ragged(rows, Layout(lengths, self.layout.device))


def row_index(starts: HostInts, lengths: HostInts) -> HostInts:
    """Return the row indices of sequences, given their first rows and their lengths."""
    shift = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(shift, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy a host array to a tensor on a device; the host does not wait for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def on_host(numbers: Tensor | HostInts) -> HostInts:
    """Return lengths or indices as a host array; the host waits if they are on a GPU."""
    return numbers.cpu().numpy() if isinstance(numbers, Tensor) else numbers


def pack(padded: Tensor, lengths: HostInts) -> Tensor:
    """Remove the padding of sequences (N, L, ...): rows (R, ...)."""
    return torch.cat([row[:length] for row, length in zip(padded, lengths.tolist(), strict=True)])


def pad(rows: Tensor, lengths: HostInts) -> Tensor:
    """Pad rows (R, ...) with zeros to sequences (N, L, ...)."""
    return torch.nn.utils.rnn.pad_sequence(rows.split(lengths.tolist()), batch_first=True)


def cut(sizes: HostInts, limit: int) -> list[slice]:
    """Divide items into slices of a total size of at most `limit`, or of one larger item."""
    ends = np.cumsum(sizes)
    pieces, start = [], 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        pieces.append(slice(start, stop))
        start = stop
    return pieces


@dataclass(frozen=True)
class Links:
    """N links, each from a sequence of queries to the sequence of keys and values it attends to."""

    queries: tuple[int, ...]
    contexts: tuple[int, ...]

    @classmethod
    def to_itself(cls, count: int) -> Links:
        """Link every sequence of queries to the context with the same index."""
        return cls(tuple(range(count)), tuple(range(count)))

    @classmethod
    def across(cls, pairs: int) -> Links:
        """Link sequences 2 i and 2 i + 1 to each other."""
        numbers = range(2 * pairs)
        return cls(tuple(numbers), tuple(i ^ 1 for i in numbers))


def attention_path(device: torch.device, dtype: torch.dtype, width: int) -> AttentionPath:
    """Return the method that `attend` uses for this device, dtype and width of the heads.

    Returns:
        `varlen`: One kernel call for sequences of all lengths. It needs float16 or bfloat16, an
        Ampere GPU or later, and heads of at most 256 whose width is a multiple of 8. `sdpa`:
        PyTorch's attention once per sequence, which is as fast as anything on a CPU. `loop`: the
        same on another device, where so many small calls leave the device waiting for the host.
    """
    if device.type == "cpu":
        return "sdpa"
    fits = dtype in KERNEL_DTYPES and width <= KERNEL_MAX_WIDTH and width % 8 == 0
    if not (fits and device.type == "cuda"):
        return "loop"
    recent = torch.cuda.get_device_capability(device) >= KERNEL_CAPABILITY
    return "varlen" if recent else "loop"


def takes_all_lengths_at_once(queries: Tensor) -> bool:
    """Return whether one kernel call handles queries (Q, heads, width) of all lengths."""
    dtype = computing_dtype(queries.device, queries.dtype)
    return attention_path(queries.device, dtype, queries.shape[-1]) == "varlen"


def computing_dtype(device: torch.device, default: torch.dtype) -> torch.dtype:
    """Return the dtype of matrix products on a device: autocast's if autocast is enabled."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else default


def attend(queries: Ragged, contexts: Ragged, links: Links, scale: float | None = None) -> Tensor:
    """Compute scaled-dot-product attention along links.

    Args:
        queries: Rows (Q, heads, width).
        contexts: Rows (K, 2, heads, width): keys and values.
        links: Which queries attend to which context.
        scale: Factor of the products; by default 1 / sqrt(width).

    Returns:
        Rows (R, heads, width): the weighted means of values that each link's queries read, link
        after link.
    """
    if takes_all_lengths_at_once(queries.rows):
        return _attend_at_once(queries, contexts, links, scale)
    return _attend_one_by_one(queries, contexts, links, scale)


def _attend_at_once(queries: Ragged, contexts: Ragged, links: Links, scale: float | None) -> Tensor:
    # The kernel's operator does not follow autocast by itself.
    dtype = computing_dtype(queries.rows.device, queries.rows.dtype)
    asking = queries.to(dtype).take(links.queries)
    asked = contexts.to(dtype).take(links.contexts)
    key, value = asked.rows.unbind(1)
    attended = varlen_attn(
        asking.rows,
        key,
        value,
        asking.layout.offsets,
        asked.layout.offsets,
        max(asking.layout.lengths),
        max(asked.layout.lengths),
        scale=scale,
    )
    assert isinstance(attended, Tensor)
    return attended


def _attend_one_by_one(
    queries: Ragged, contexts: Ragged, links: Links, scale: float | None
) -> Tensor:
    """Compute attention link by link, which needs no mask and on a CPU is as fast as batching."""
    read = []
    for asking, asked in zip(links.queries, links.contexts, strict=True):
        query = queries.parts[asking].transpose(0, 1)
        key, value = contexts.parts[asked].permute(1, 2, 0, 3).unbind(0)
        attended = scaled_dot_product_attention(query[None], key[None], value[None], scale=scale)
        read.append(attended[0].transpose(0, 1))
    return torch.cat(read)
