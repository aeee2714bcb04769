"""The fast path on a GPU, by the checks of `benchmarks/gpu_checks.py`; skipped without a GPU."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu_checks import (
    Bench,
    check_attention,
    check_model,
    check_no_waiting,
    check_resume,
    check_scoring,
    open_bench,
)
from tests.tiny_benchmark import TinyProject

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return open_bench(quick=True)


def test_one_kernel_for_all_lengths_gives_what_one_by_one_gives(bench: Bench) -> None:
    assert bench.report["attention"] == "varlen"
    values, gradients = check_attention(bench)
    assert values < 1e-2
    assert gradients < 2e-2


def test_a_step_in_bf16_is_about_one_in_float32(bench: Bench) -> None:
    logits, gradients = check_model(bench)
    assert logits < 0.1
    assert gradients < 0.2


def test_a_training_step_makes_the_host_wait_for_nothing(bench: Bench) -> None:
    assert check_no_waiting(bench) > 0


def test_scores_in_bf16_are_about_those_in_float32(bench: Bench) -> None:
    assert check_scoring(bench) < 0.1


def test_steps_after_a_saved_state_are_the_same(bench: Bench) -> None:
    assert check_resume(bench) < 2e-2


@pytest.mark.launch
def test_epochs_in_bf16_save_and_resume(project: TinyProject) -> None:
    options = "--num_processes 1 --num_machines 1 --mixed_precision bf16 --dynamo_backend no"
    launcher = ["-m", "accelerate.commands.launch", *options.split()]
    settings = ["run_config.pretrain_run_id=bf16", "model_config.n_heads=2"]
    for epochs, resume in ((1, []), (2, ["--resume"])):
        command = project.command(
            "pretrain.py", *resume, "--set", f"training_config.epochs={epochs}", *settings
        )
        finished = project.run([command[0], *launcher, *command[1:]])
        assert finished.code == 0, finished.stderr
        assert "attention=varlen" in finished.stderr
    state = project.output / "models" / "v3" / "pretrain" / "bf16" / "last_state"
    rows = json.loads((state / "progress.json").read_text())["rows"]
    assert [row["epoch"] for row in rows] == [1, 2]
