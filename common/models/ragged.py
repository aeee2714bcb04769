"""Sequences of unequal length without padding: rows laid end to end, and attention over them.

Whatever treats each residue alone (projections, norms, feed-forward) runs over all rows at once;
only attention needs to know where a sequence ends. Lengths live on the host, where shapes are
planned, so that nothing here makes the host wait for a device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

HostInts = NDArray[np.int64]

# What the variable-length kernel takes.
KERNEL_DTYPES = (torch.float16, torch.bfloat16)
KERNEL_MAX_WIDTH = 256
KERNEL_CAPABILITY = (8, 0)  # Ampere; older GPUs do not have it


@dataclass(eq=False)
class Layout:
    """How rows divide into N sequences, with what a device needs to know of it, made once.

    Attributes:
        lengths: Rows of each sequence.
        device: Where the rows are.
    """

    lengths: tuple[int, ...]
    device: torch.device
    _taken: dict[tuple[int, ...], tuple[Layout, Tensor]] = field(default_factory=dict)

    @cached_property
    def offsets(self) -> Tensor:
        """(N + 1,) int32 first row of each sequence, and the end."""
        return to_device(np.cumsum((0, *self.lengths), dtype=np.int32), self.device)

    @cached_property
    def sequence_of_row(self) -> Tensor:
        """(R,) which sequence each row belongs to."""
        numbers = np.arange(len(self.lengths), dtype=np.int64)
        return to_device(np.repeat(numbers, self.lengths), self.device)

    @cached_property
    def in_twos(self) -> Layout:
        """The layout in which sequences 2 i and 2 i + 1 are one."""
        both = zip(self.lengths[::2], self.lengths[1::2], strict=True)
        return Layout(tuple(a + b for a, b in both), self.device)

    def taking(self, which: tuple[int, ...]) -> tuple[Layout, Tensor]:
        """The layout of these sequences, in this order, and (R',) the rows they consist of."""
        if which not in self._taken:
            lengths, chosen = np.asarray(self.lengths), np.asarray(which)
            index = row_index((np.cumsum(lengths) - lengths)[chosen], lengths[chosen])
            layout = Layout(tuple(lengths[chosen].tolist()), self.device)
            self._taken[which] = layout, to_device(index, self.device)
        return self._taken[which]


@dataclass(frozen=True, eq=False)
class Ragged:
    """N sequences laid end to end: (R, ...) rows and how they divide."""

    rows: Tensor
    layout: Layout

    @cached_property
    def parts(self) -> tuple[Tensor, ...]:
        """The sequences one by one, as views."""
        # One split for all of them: its backward is one concatenation, where N slices would
        # each fill a tensor as large as `rows`.
        parts: tuple[Tensor, ...] = self.rows.split(self.layout.lengths)
        return parts

    def to(self, dtype: torch.dtype) -> Ragged:
        """The same in another dtype."""
        return Ragged(self.rows.to(dtype), self.layout)

    def take(self, which: tuple[int, ...]) -> Ragged:
        """These sequences, in this order."""
        if which == tuple(range(len(self.layout.lengths))):
            return self
        if self.rows.is_cuda:
            layout, index = self.layout.taking(which)
            return Ragged(self.rows.index_select(0, index), layout)
        # On a CPU this is faster than an index, above all in the backward pass.
        lengths = tuple(self.layout.lengths[i] for i in which)
        rows = torch.cat([self.parts[i] for i in which])
        return Ragged(rows, Layout(lengths, self.layout.device))


def row_index(starts: HostInts, lengths: HostInts) -> HostInts:
    """The numbers of all rows of sequences that start here and are so long, one after another."""
    shift = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(shift, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A host array as a tensor on a device; the host does not wait for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def on_host(numbers: Tensor | HostInts) -> HostInts:
    """Lengths or indices as a host array; from a GPU this makes the host wait."""
    return numbers.cpu().numpy() if isinstance(numbers, Tensor) else numbers


def pack(padded: Tensor, lengths: HostInts) -> Tensor:
    """The real rows (R, ...) of padded sequences (N, L, ...)."""
    return torch.cat([row[:length] for row, length in zip(padded, lengths.tolist(), strict=True)])


def pad(rows: Tensor, lengths: HostInts) -> Tensor:
    """Padded sequences (N, L, ...) of rows (R, ...), zero where padded."""
    return torch.nn.utils.rnn.pad_sequence(rows.split(lengths.tolist()), batch_first=True)


def cut(sizes: HostInts, limit: int) -> list[slice]:
    """Consecutive pieces of a list whose sizes add up to at most `limit`, or that are one long."""
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
    """Which sequence of queries reads which sequence of keys and values, N times."""

    queries: tuple[int, ...]
    contexts: tuple[int, ...]

    @classmethod
    def to_itself(cls, count: int) -> Links:
        """Every sequence of queries reads the context of the same number."""
        return cls(tuple(range(count)), tuple(range(count)))

    @classmethod
    def across(cls, pairs: int) -> Links:
        """Sequences 2 i and 2 i + 1 read each other."""
        numbers = range(2 * pairs)
        return cls(tuple(numbers), tuple(i ^ 1 for i in numbers))


def attend(
    queries: Ragged,
    contexts: Ragged,
    links: Links,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Scaled-dot-product attention along links.

    Args:
        queries: Rows (Q, heads, width).
        contexts: Rows (K, 2, heads, width): keys and values.
        links: Who reads whom.
        dropout: Share of attention weights that is dropped.
        scale: Of the products; by default 1 / sqrt(width).

    Returns:
        Rows (R, heads, width): what each link's queries read, link after link.
    """
    if takes_all_lengths_at_once(queries.rows, dropout):
        dtype = _computing_dtype(queries.rows)
        queries, contexts = queries.to(dtype), contexts.to(dtype)
        return _attend_at_once(queries, contexts, links, scale)
    return _attend_one_by_one(queries, contexts, links, dropout, scale)


def takes_all_lengths_at_once(queries: Tensor, dropout: float) -> bool:
    """Whether one kernel can do it: half precision on a recent GPU, narrow heads, no dropout."""
    width = queries.shape[-1]
    fits = width <= KERNEL_MAX_WIDTH and width % 8 == 0 and dropout == 0.0
    if not (queries.is_cuda and fits and _computing_dtype(queries) in KERNEL_DTYPES):
        return False
    return torch.cuda.get_device_capability(queries.device) >= KERNEL_CAPABILITY


def _computing_dtype(rows: Tensor) -> torch.dtype:
    """The dtype that attention computes in: autocast's, as PyTorch's own attention does."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


def _attend_at_once(queries: Ragged, contexts: Ragged, links: Links, scale: float | None) -> Tensor:
    asking, asked = queries.take(links.queries), contexts.take(links.contexts)
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
    queries: Ragged, contexts: Ragged, links: Links, dropout: float, scale: float | None
) -> Tensor:
    """Exact shapes need no mask, and a CPU gains nothing from doing sequences together."""
    read = []
    for asking, asked in zip(links.queries, links.contexts, strict=True):
        query = queries.parts[asking].transpose(0, 1)
        key, value = contexts.parts[asked].permute(1, 2, 0, 3).unbind(0)
        attended = scaled_dot_product_attention(
            query[None], key[None], value[None], dropout_p=dropout, scale=scale
        )
        read.append(attended[0].transpose(0, 1))
    return torch.cat(read)
