"""A run that has begun, with a small model to save, and the ways in which saving is cut off."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.config import Config
from common.inference.decision import Decision
from common.models import PairModel, build_model
from common.run import Run
from tests.tiny_pairs import one_process

DIM = 6
FIGURES = {"auprc": 1 / 3, "auroc": None}
DECISION = Decision(0.1 + 0.2, "best_f1_on_valid", "auprc", 3, FIGURES, "weights")
SMALL = {
    "d_model": 8,
    "n_heads": 2,
    "encoder_layers": 1,
    "cross_attn_layers": 1,
    "mlp_head": {"hidden_dims": (4,)},
}


def configure(**sections: Any) -> Config:
    content = {"model_config": SMALL, "run_config": {"eval_run_id": "1e5"}, **sections}
    return Config.model_validate(content)


def model_of(config: Config, seed: int = 0) -> PairModel:
    torch.manual_seed(seed)
    return build_model(config.model, DIM)


def begin_run(directory: Path) -> Run:
    """A run that has begun."""
    config = configure(run_config={"output_dir": str(directory), "eval_run_id": "1e5"})
    logs, models = directory / "logs", directory / "models" / "v3" / "pretrain" / "one"
    logs.mkdir()
    begun = Run("pretrain", "one", config, one_process(), logs, models)
    begun.begin()
    return begun


def same_numbers(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


class Killed(BaseException):
    """Stands for the moment at which a process is killed."""


def die_on_the_second_call(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    calls: list[Path] = []

    def patched(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == 2:
            raise Killed
        return rename(source, target)

    return patched


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more into a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
