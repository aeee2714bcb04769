"""torch.compile as accelerate's option: the same numbers, and no compiling for every batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import TorchDynamoPlugin
from torch._dynamo.utils import counters

from common.inference.compiling import compile_rows
from common.models.v3 import V3Config, V3Model
from tests.tiny_benchmark import TinyProject
from tests.tiny_pairs import make_pairs, whole_batch

DATA = make_pairs(60)


def make_model() -> V3Model:
    torch.manual_seed(0)
    config: Any = V3Config(
        input_dim=DATA.store.dim, d_model=16, n_heads=2, hidden_dims=[8],
        dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    return V3Model(config)


def accelerator_with(backend: str) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True, dynamo_plugin=TorchDynamoPlugin(backend=backend))


@pytest.fixture
def eager() -> Any:
    """An accelerator that was asked to compile, with the backend that only traces."""
    torch.compiler.reset()
    counters.clear()
    yield accelerator_with("eager")
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.compiler.reset()


def test_nothing_is_compiled_unasked() -> None:
    assert compile_rows(make_model(), accelerator_with("no")) == 0


def test_batches_of_all_shapes_take_a_few_graphs_and_give_the_same_numbers(
    eager: Accelerator,
) -> None:
    """Compiled whole, the model was compiled anew for nearly every batch."""
    plain, compiled = make_model(), make_model()
    assert compile_rows(compiled, eager) == 25
    names = set(compiled.state_dict())
    for size in range(1, 21):
        batch = whole_batch(DATA, list(range(size, 2 * size)))
        outputs = [model(batch.proteins, batch.lengths, batch.pairs) for model in (plain, compiled)]
        assert outputs[0].logits.allclose(outputs[1].logits, atol=1e-6)
    # Five methods, whose graphs all layers share; CLS comes expanded to the first block.
    assert 5 <= counters["stats"]["unique_graphs"] <= 8
    # Checkpoints do not know of it.
    assert names == set(plain.state_dict())
    assert eager.prepare(compiled) is compiled


@pytest.mark.launch
def test_training_runs_with_the_launchers_option(project: TinyProject) -> None:
    command = project.command("pretrain.py", "--set", "training_config.epochs=1")
    options = "--cpu --num_processes 1 --num_machines 1 --mixed_precision no"
    launcher = ["-m", "accelerate.commands.launch", *options.split(), "--dynamo_backend", "eager"]
    finished = project.run([command[0], *launcher, *command[1:]])
    assert finished.code == 0, finished.stderr
    assert "compiled=5" in finished.stderr
