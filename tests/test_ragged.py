"""Rows laid end to end: the same as padded sequences, whichever way attention runs over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from common.models import ragged, v3
from common.models.ragged import Layout, Links, Ragged, attend, cut, pack, pad, row_index

CPU = torch.device("cpu")


def sequences(lengths: tuple[int, ...], *shape: int, seed: int = 0) -> Ragged:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), *shape, generator=generator)
    return Ragged(rows, Layout(lengths, CPU))


def test_packing_undoes_padding() -> None:
    lengths = np.array([3, 1, 5])
    rows = torch.randn(9, 2)
    padded = pad(rows, lengths)
    assert padded.shape == (3, 5, 2)
    assert not padded[0, 3:].any()
    assert torch.equal(pack(padded, lengths), rows)


def test_taking_sequences_by_index_is_what_cutting_them_out_gives() -> None:
    """The first is the way on a GPU, the second on a CPU."""
    taken = sequences((3, 1, 5), 2)
    which = (2, 0, 0, 1)
    layout, index = taken.layout.taking(which)
    assert layout.lengths == taken.take(which).layout.lengths == (5, 3, 3, 1)
    assert torch.equal(taken.rows[index], taken.take(which).rows)
    assert torch.equal(taken.take(which).rows[5:8], taken.rows[:3])


def test_row_numbers_of_slices() -> None:
    assert row_index(np.array([4, 0]), np.array([2, 3])).tolist() == [4, 5, 0, 1, 2]


def test_a_layout_tells_whose_each_row_is() -> None:
    layout = Layout((2, 1, 3, 1), CPU)
    assert layout.sequence_of_row.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert layout.offsets.tolist() == [0, 2, 3, 6, 7]
    assert layout.in_twos.lengths == (3, 4)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(10, [[4, 5], [9, 1], [2]]), (3, [[4], [5], [9], [1, 2]]), (99, [[4, 5, 9, 1, 2]])],
)
def test_pieces_are_as_long_as_the_limit_lets_them(limit: int, expected: list[list[int]]) -> None:
    sizes = np.array([4, 5, 9, 1, 2])
    assert [sizes[piece].tolist() for piece in cut(sizes, limit)] == expected
    assert cut(sizes[:0], limit) == []


LINKS = Links(queries=(0, 1, 1, 2), contexts=(1, 0, 2, 2))


def attend_by_hand(queries: Ragged, contexts: Ragged, links: Links, scale: float) -> Tensor:
    read = []
    for asking, asked in zip(links.queries, links.contexts, strict=True):
        query, context = queries.parts[asking], contexts.parts[asked]
        weights = (torch.einsum("qhw,khw->hqk", query, context[:, 0]) * scale).softmax(-1)
        read.append(torch.einsum("hqk,khw->qhw", weights, context[:, 1]))
    return torch.cat(read)


@pytest.mark.parametrize("scale", [None, 0.2])
def test_attention_along_links_is_softmax_by_hand(scale: float | None) -> None:
    queries, contexts = sequences((3, 4, 2), 2, 8), sequences((5, 1, 6), 2, 2, 8, seed=1)
    expected = attend_by_hand(queries, contexts, LINKS, scale or 8**-0.5)
    torch.testing.assert_close(attend(queries, contexts, LINKS, scale=scale), expected)


def stand_in_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts_q: Tensor,
    starts_k: Tensor,
    longest_q: int,
    longest_k: int,
    *,
    scale: float | None,
) -> Tensor:
    """What the GPU's kernel computes for sequences of all lengths, by its documentation."""
    assert starts_q.dtype == starts_k.dtype == torch.int32
    assert longest_q == int(starts_q.diff().max())
    assert longest_k == int(starts_k.diff().max())
    read = []
    for q, q_end, k, k_end in zip(starts_q, starts_q[1:], starts_k, starts_k[1:], strict=False):
        parts = (query[q:q_end], key[k:k_end], value[k:k_end])
        asking, known, told = (part[None].transpose(1, 2) for part in parts)
        attended = scaled_dot_product_attention(asking, known, told, scale=scale)
        read.append(attended[0].transpose(0, 1))
    return torch.cat(read)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Takes the way of a GPU; what is returned fills with one entry per kernel call."""
    calls: list[Any] = []

    def kernel(*arguments: Any, **options: Any) -> Tensor:
        calls.append(arguments[0].shape)
        return stand_in_kernel(*arguments, **options)

    monkeypatch.setattr(ragged, "varlen_attn", kernel)
    for module in (ragged, v3):
        monkeypatch.setattr(module, "takes_all_lengths_at_once", lambda queries: True)
    return calls


def test_attention_in_one_kernel_is_attention_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, contexts = sequences((3, 4, 2), 2, 8), sequences((5, 1, 6), 2, 2, 8, seed=1)
    expected = attend(queries, contexts, LINKS, scale=0.2)
    calls = pretend_gpu(monkeypatch)
    torch.testing.assert_close(attend(queries, contexts, LINKS, scale=0.2), expected)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("device", "dtype", "width", "capability", "path"),
    [
        ("cuda", torch.bfloat16, 64, (8, 0), "varlen"),
        ("cuda", torch.float16, 256, (9, 0), "varlen"),
        # The kernel is missing before Ampere, where fp16 is what people use.
        ("cuda", torch.float16, 64, (7, 5), "loop"),
        ("cuda", torch.float32, 64, (9, 0), "loop"),
        ("cuda", torch.bfloat16, 264, (9, 0), "loop"),
        ("cuda", torch.bfloat16, 20, (9, 0), "loop"),
        ("cpu", torch.bfloat16, 64, (9, 0), "sdpa"),
        ("mps", torch.float16, 64, (9, 0), "loop"),
    ],
)
def test_which_path_attention_takes(
    device: str,
    dtype: torch.dtype,
    width: int,
    capability: tuple[int, int],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert ragged.attention_path(torch.device(device), dtype, width) == path


def test_autocast_decides_the_dtype_of_products() -> None:
    assert ragged.computing_dtype(CPU, torch.float32) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert ragged.computing_dtype(CPU, torch.float32) == torch.bfloat16
