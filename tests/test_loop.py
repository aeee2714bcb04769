"""The epoch's record and the check that stops what is not finite."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from common.config import Config
from common.errors import UserError
from common.inference.decision import Decision
from common.run import Run
from common.training.loop import EpochRecord, FiniteCheck
from common.training.progress import EpochPart
from common.training.validation import Validation
from tests.tiny_esm import record_log
from tests.tiny_pairs import make_pairs, one_process, whole_batch

DATA = make_pairs(60)


def names_of(row: int) -> list[str]:
    """The proteins of a pair of `DATA`, which are not among those of its first rows."""
    return sorted({DATA.table.proteins[i] for i in DATA.table.pairs[row]})


def noted(losses: list[Tensor], accelerator: Accelerator | None = None) -> FiniteCheck:
    """A check that has seen an update's rounds, four pairs each."""
    check = FiniteCheck(accelerator or one_process(), torch.optim.SGD([torch.zeros(1)]))
    for number, loss in enumerate(losses):
        check.note(loss, whole_batch(DATA, list(range(4 * number, 4 * number + 4))))
    return check


def record(steps: int, every: int, folder: Path) -> EpochRecord:
    """The record of the second epoch."""
    config = Config.model_validate({"training_config": {"logging": {
        "heartbeat_every_n_steps": every}}})  # fmt: skip
    run = Run("pretrain", "one", config, one_process(), folder, folder)
    return EpochRecord(run, 1, steps)


def test_the_epochs_loss_is_the_mean_over_pairs_not_over_steps(tmp_path: Path) -> None:
    """By hand: (1 + 2 + 6) / 3, the stand-in of weight 0 left out."""
    epoch = record(2, 10, tmp_path)
    epoch.note(torch.tensor([1.0, 2.0, 50.0]), torch.tensor([1.0, 1.0, 0.0]), 0.1)
    epoch.note(torch.tensor([6.0]), torch.tensor([1.0]), 0.2)
    assert epoch.mean_loss() == 3.0
    validation = Validation(0.5, {"auprc": None}, Decision(0.5, "fixed", "auprc", 2, {}, "weights"))
    row = epoch.row(3.0, validation)
    assert (row.epoch, row.train_loss, row.val_loss, row.learning_rate) == (2, 3.0, 0.5, 0.2)


def test_an_epoch_without_a_loss_has_none(tmp_path: Path) -> None:
    assert math.isnan(record(1, 1, tmp_path).mean_loss())


def test_heartbeats_are_the_first_every_nth_and_the_last_step(tmp_path: Path) -> None:
    epoch = record(8, 3, tmp_path)
    with record_log() as log:
        for step in range(8):
            epoch.note(torch.tensor([float(step)]), torch.ones(1), 0.1 * step)
    fields = [dict(f.split("=") for f in line.split(" | ")[1:]) for line in log.lines]
    assert [beat["step"] for beat in fields] == ["1/8", "3/8", "6/8", "8/8"]
    assert [beat["loss"] for beat in fields] == ["0", "2", "5", "7"]
    assert {beat["epoch"] for beat in fields} == {"2"}


def test_the_record_of_a_paused_epoch_continues_its_sums_and_its_time(tmp_path: Path) -> None:
    """Three of five rounds were done, in 100 seconds: the CSV's epoch time has them all."""
    fresh = record(5, 10, tmp_path)
    part = EpochPart(rounds=3, seconds=100.0, lr=0.3, sums=[[6.0, 3.0]])
    epoch = EpochRecord(fresh.run, 1, 5, part)
    assert epoch.seconds >= 100.0
    again = epoch.to_part()
    assert (again.rounds, again.lr, again.sums) == (3, 0.3, [[6.0, 3.0]])
    epoch.note(torch.tensor([1.0]), torch.ones(1), 0.2)
    assert epoch.step == 4
    assert epoch.mean_loss() == 7.0 / 4.0


def test_finite_updates_pass() -> None:
    check = noted([torch.ones(4)])
    check.verify(torch.tensor(3.0))
    assert not check.rounds


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_the_pair_of_the_loss_that_is_not_finite_is_named(value: float) -> None:
    check = noted([torch.tensor([0.1, value, 0.2, 0.3])])
    with pytest.raises(UserError) as stopped:
        check.verify(torch.tensor(torch.nan))
    assert f"with the proteins {', '.join(names_of(1))}; lower" in str(stopped.value)


def test_under_accumulation_the_round_that_did_it_is_named() -> None:
    """Only the last round before the update was looked at: it named innocent proteins."""
    losses = [torch.ones(4), torch.tensor([1.0, 1.0, 1.0, torch.nan]), torch.ones(4)]
    with pytest.raises(UserError) as stopped:
        noted(losses).verify(torch.tensor(torch.nan))
    assert f"with the proteins {', '.join(names_of(7))}; lower" in str(stopped.value)


def test_under_fp16_a_loss_of_any_round_must_be_finite_but_gradients_may_overflow() -> None:
    """The loss scaler skips updates whose scaled gradients overflow."""
    fp16: Any = SimpleNamespace(mixed_precision="fp16", reduce=lambda total, reduction: total)
    one_process()
    losses = [torch.ones(4), torch.tensor([1.0, 1.0, 1.0, torch.nan]), torch.ones(4)]
    with pytest.raises(UserError, match=f"with the proteins {', '.join(names_of(7))}; lower"):
        noted(losses, fp16).verify(torch.tensor(1.0))
    noted([torch.ones(4)], fp16).verify(torch.tensor(torch.inf))


def test_an_earlier_update_is_forgotten() -> None:
    check = noted([torch.ones(4)])
    check.verify(torch.tensor(1.0))
    check.note(torch.tensor([torch.nan]), whole_batch(DATA, [9]))
    with pytest.raises(UserError, match=", ".join(names_of(9))) as stopped:
        check.verify(torch.tensor(torch.nan))
    assert names_of(1)[0] not in str(stopped.value)


def test_gradients_that_overflow_alone_name_every_protein_up_to_twenty() -> None:
    check = noted([torch.ones(4), torch.ones(4), torch.ones(4)])
    names = {name for _, _, names in check.rounds for name in names}
    assert len(names) <= 20
    with pytest.raises(UserError) as stopped:
        check.verify(torch.tensor(torch.inf))
    assert f"with the proteins {', '.join(sorted(names))}; lower" in str(stopped.value)
    check.note(torch.ones(60), whole_batch(DATA, list(range(60))))
    with pytest.raises(UserError, match=r"P019 and 10 more; lower"):
        check.verify(torch.tensor(torch.inf))


def test_a_deferred_verdict_leaves_the_weights_alone_and_comes_before_the_next_step() -> None:
    """As on a GPU: the host does not wait for the norm, the optimizer skips the step by itself."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    check = FiniteCheck(one_process(), optimizer, deferred=True)

    def update(loss: float) -> None:
        weight.grad = torch.full((3,), loss)
        check.note(torch.tensor([1.0, loss]), whole_batch(DATA, [0, 1]))
        check.verify(weight.grad.norm())
        optimizer.step()

    update(1.0)
    before = weight.detach().clone()
    update(torch.nan)
    assert weight.equal(before)
    with pytest.raises(UserError, match=", ".join(names_of(1))):
        update(1.0)
    assert weight.equal(before)
    update(1.0)
    assert not weight.equal(before)
    update(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        check.settle()
