"""Optimizer, schedule and staged unfreezing, against torch's own and by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from common.config import (
    MlpHeadConfig,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    StrategyConfig,
    TrainingConfig,
)
from common.errors import UserError
from common.models import PairModel, build_model
from common.training.optimization import (
    StagedUnfreezing,
    build_optimizer,
    build_scheduler,
    current_lr,
)


def small_model() -> PairModel:
    torch.manual_seed(0)
    head = MlpHeadConfig(hidden_dims=(4,), dropout=0.0)
    settings = ModelConfig(
        d_model=8, n_heads=2, encoder_layers=1, cross_attn_layers=1, mlp_head=head
    )
    return build_model(settings, 6)


def training(**scheduler: object) -> TrainingConfig:
    return TrainingConfig(
        optimizer=OptimizerConfig(lr=0.01), scheduler=SchedulerConfig.model_validate(scheduler)
    )


def rates(settings: TrainingConfig, updates: int) -> list[float]:
    """The learning rate of each update."""
    optimizer = build_optimizer(nn.Linear(2, 1), settings.optimizer)
    scheduler = build_scheduler(optimizer, settings, updates)
    found = []
    for _ in range(updates):
        found.append(current_lr(scheduler))
        assert {group["lr"] for group in optimizer.param_groups} == {found[-1]}
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_one_cycle_is_torchs_own(anneal: str) -> None:
    settings = training(max_lr=0.3, pct_start=0.2, div_factor=10.0, anneal_strategy=anneal)
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = OneCycleLR(
        optimizer,
        max_lr=0.3,
        total_steps=50,
        pct_start=0.2,
        div_factor=10.0,
        final_div_factor=1e4,
        anneal_strategy=anneal,  # type: ignore[arg-type]
    )
    expected = []
    for _ in range(50):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates(settings, 50) == expected


def test_one_cycle_by_hand() -> None:
    """Linear over 10 updates, the peak after 3: from lr/25 up to lr, then down to lr/25/10000."""
    found = rates(training(anneal_strategy="linear"), 10)
    assert found[0] == pytest.approx(0.01 / 25)
    assert found[1] == pytest.approx((0.01 / 25 + 0.01) / 2)
    assert found[2] == pytest.approx(0.01)
    assert found[9] == pytest.approx(0.01 / 25 / 1e4)
    assert found[2:] == sorted(found[2:], reverse=True)


@pytest.mark.parametrize("updates", [1, 2, 3, 5, 10, 20, 40])
@pytest.mark.parametrize("pct_start", [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.99])
def test_any_number_of_updates_has_a_rate(updates: int, pct_start: float) -> None:
    """A warm-up of exactly one update (0.1 of 10) divided by zero; it is the peak."""
    found = rates(training(pct_start=pct_start), updates)
    assert all(0 < rate <= 0.01 * (1 + 1e-9) for rate in found)
    if updates * pct_start == 1:
        assert found[0] == pytest.approx(0.01)


def test_constant_is_the_optimizers_rate() -> None:
    assert rates(training(type="constant"), 7) == [0.01] * 7


def test_the_momentum_of_the_configuration_holds_throughout() -> None:
    """OneCycleLR by default overwrites beta1 with a cycle of its own."""
    settings = TrainingConfig(optimizer=OptimizerConfig(beta1=0.7))
    optimizer = build_optimizer(nn.Linear(2, 1), settings.optimizer)
    scheduler = build_scheduler(optimizer, settings, 10)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert [group["betas"] for group in optimizer.param_groups] == [(0.7, 0.999)] * 2


@pytest.mark.parametrize("kind", ["onecycle", "constant"])
def test_a_schedule_goes_on_from_its_state_in_json(kind: str) -> None:
    """Interrupted after 4 of 10 updates, and restored as a resumed run restores it."""
    settings = training(type=kind)
    whole = rates(settings, 10)
    model = nn.Linear(2, 1)
    optimizer = build_optimizer(model, settings.optimizer)
    scheduler = build_scheduler(optimizer, settings, 10)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    saved = json.loads(json.dumps(scheduler.state_dict()))
    again = build_optimizer(model, settings.optimizer)
    resumed = build_scheduler(again, settings, 10)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(saved)
    rest = []
    for _ in range(6):
        rest.append(current_lr(resumed))
        assert {group["lr"] for group in again.param_groups} == {rest[-1]}
        again.step()
        resumed.step()
    assert rest == whole[4:]


def test_matrices_are_decayed_and_the_rest_is_not() -> None:
    """With no gradient but decay, by hand: w (1 - lr * decay) for matrices alone."""
    model = small_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        spared = name.endswith("bias") or "norm" in name or name == "cls" or parameter.dim() == 1
        factor = 1.0 if spared else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)
    held = sum(len(group["params"]) for group in optimizer.param_groups)
    assert held == len(before)


def staged(model: nn.Module, epoch: int, *prefixes: str) -> StagedUnfreezing:
    return StagedUnfreezing.from_settings(
        model,
        StrategyConfig(
            type="staged_unfreeze", unfreeze_epoch=epoch, initial_trainable_prefixes=prefixes
        ),
    )


def update(model: PairModel, optimizer: AdamW, unfreezing: StagedUnfreezing, epoch: int) -> None:
    """One update as the scripts make it."""
    proteins = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(epoch))
    output = model(proteins, torch.tensor([5, 5]), torch.tensor([[0, 1]]), torch.ones(1))
    output.loss.backward()
    unfreezing.drop_frozen_gradients(epoch)
    optimizer.step()
    optimizer.zero_grad()


def test_what_is_frozen_stands_still_then_moves() -> None:
    """Neither gradient nor weight decay touches it; its Adam moments start when it joins."""
    model = small_model()
    unfreezing = staged(model, 2, "head.", "cls")
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1, weight_decay=0.5))
    names = [name for name, _ in model.named_parameters()]
    free = {name for name in names if name.startswith(("head.", "cls"))}
    for epoch in range(4):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        update(model, optimizer, unfreezing, epoch)
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert moved == (free if epoch < 2 else set(names))
    steps = {
        name: int(optimizer.state[parameter]["step"])
        for name, parameter in model.named_parameters()
    }
    assert {steps[name] for name in free} == {4}
    assert {steps[name] for name in set(names) - free} == {2}


def test_a_parameter_joins_as_with_a_fresh_optimizer() -> None:
    """The first update after joining is Adam's first: lr along the gradient's sign."""
    model = small_model()
    unfreezing = staged(model, 1, "head.")
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-3, weight_decay=0.0))
    update(model, optimizer, unfreezing, 0)
    before = model.get_parameter("projection.weight").detach().clone()
    update(model, optimizer, unfreezing, 1)
    change = (model.get_parameter("projection.weight").detach() - before).abs()
    assert math.isclose(change.median().item(), 1e-3, rel_tol=0.01)


def test_trainable_numbers_are_counted() -> None:
    model = small_model()
    head = sum(p.numel() for name, p in model.named_parameters() if name.startswith("head."))
    every = sum(p.numel() for p in model.parameters())
    unfreezing = staged(model, 1, "head.")
    assert [unfreezing.trainable(model, epoch) for epoch in range(3)] == [head, every, every]
    nothing = StagedUnfreezing.from_settings(model, StrategyConfig())
    assert nothing.trainable(model, 0) == every


def test_a_prefix_of_nothing_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"starts with 'tail'; choose from the model's parts: cls, cross"
    ):
        staged(small_model(), 1, "head", "tail")
