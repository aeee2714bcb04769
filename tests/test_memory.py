"""Memory that runs out: one sentence with the lengths and the settings to lower."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
import pytest
import torch

from common import memory
from common.errors import UserError
from common.memory import explain_out_of_memory
from common.models.v3 import V3Model
from tests.tiny_benchmark import TinyProject, call_main

LENGTHS = np.array([10, 60, 35])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_the_lengths_and_the_remedy_are_told(error: Exception) -> None:
    with (
        pytest.raises(UserError) as told,
        explain_out_of_memory("training on 2 pairs", LENGTHS, "lower this"),
    ):
        raise error
    assert str(told.value) == (
        "out of memory while training on 2 pairs with 3 proteins of 10 to 60 residues, 105 in all;"
        " lower this"
    )


def test_a_host_that_has_no_more_is_told_too() -> None:
    with (
        pytest.raises(UserError, match="out of memory while encoding"),
        explain_out_of_memory("encoding", LENGTHS, "lower this"),
    ):
        torch.empty(2**52)


def test_other_errors_are_left_as_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="cannot be multiplied"),
        explain_out_of_memory("encoding", LENGTHS, "lower this"),
    ):
        torch.ones(2, 3) @ torch.ones(2, 3)


def exhaust(*arguments: Any, **named: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def test_a_training_step_that_does_not_fit_names_the_batch(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(V3Model, "encode_rows", exhaust)
    with pytest.raises(UserError) as told:
        call_main(project, "pretrain.py")
    assert str(told.value).startswith("out of memory while training on 8 pairs with ")
    assert "residues" in str(told.value)
    assert "lower training_config.batch_size" in str(told.value)


def test_scoring_that_does_not_fit_names_the_tile_size(
    pretrained: tuple[TinyProject, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, best = pretrained
    monkeypatch.setattr(V3Model, "interact_rows", exhaust)
    with pytest.raises(UserError) as told:
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "pairs")
    assert str(told.value).startswith("out of memory while scoring ")
    assert "lower evaluate.scoring.tile_residues (now 16384)" in str(told.value)


def test_freed_memory_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time would take a third of a training's time; never, and the heap grows and grows."""
    now, returned = [100.0], []

    class Libc:
        def malloc_trim(self, kept: int) -> None:
            returned.append((now[0], kept))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Libc())
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    freed = memory.FreedMemory(now[0])
    for now[0] in (105.0, 110.0, 111.0, 115.0, 121.0, 122.0):
        freed.give_back()
    assert returned == [(111.0, 0), (122.0, 0)]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # another system's library
    now[0] = 200.0
    freed.give_back()
