"""The same story on two processes as on one: batches, gradients, rates, figures, resume, failure.

Starting two processes takes ten seconds, so `rank_program.py` records many trainings in one
launch; the same functions, called here, do them on one process. In that launch the clock of rank 1
is an hour ahead.
"""

from __future__ import annotations

import csv
import datetime
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.config import LossConfig
from common.config_file import load_config
from common.data.batches import BatchPlanner, PairData
from common.data.splits import open_splits
from common.inference.checkpoints import load_checkpoint
from common.models import PairModel
from common.training.losses import PairLoss
from tests.preloads import HOUR, compiler, wrong_clock
from tests.rank_program import CASES, NETWORKS, Recording, evaluate_as, record_all
from tests.tiny_benchmark import (
    ROOT,
    TinyProject,
    make_project,
    run_command,
)
from tests.tiny_pairs import one_process, whole_batch

pytestmark = [pytest.mark.launch, pytest.mark.two_processes]

PROGRAM = ROOT / "tests" / "rank_program.py"
LAUNCH = [
    sys.executable,
    *("-m", "accelerate.commands.launch"),
    *("--config_file", str(ROOT / "accelerate_configs" / "cpu_2proc.yaml")),
    str(PROGRAM),
]


@dataclass(frozen=True)
class Failure:
    """How the launch on two processes ended: its exit code, its seconds, the last run's log."""

    code: int
    seconds: float
    log: str
    run_id: str


@dataclass(frozen=True)
class Recorded:
    """What one process and two did, and where."""

    project: TinyProject
    one: dict[str, Recording]
    two: dict[str, list[Recording]]
    failure: Failure

    def path(self, kind: str, stage: str, run_id: str) -> Path:
        return self.project.output / kind / "v3" / stage / run_id


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the launched processes have; more threads add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recorded(pretrained: tuple[TinyProject, Path], tmp_path_factory: Any) -> Recorded:
    """Every case on one process and on two, and the same checkpoint judged on both."""
    _, checkpoint = pretrained
    folder = tmp_path_factory.mktemp("two_processes")
    project = make_project(folder)
    one = {name: ranks[0] for name, ranks in record_all(project).items()}
    evaluate_as(project, checkpoint, "on_one")
    output = folder / "two.pt"
    launched = run_command(
        [*LAUNCH, str(folder), str(checkpoint), str(output)],
        folder,
        PYTHONPATH=str(ROOT),
        **wrong_clock(folder, rank=1, seconds=HOUR),
    )
    # It ends in a planted failure; a log of the failure means that all before it went well.
    logs = list((project.output / "logs" / "v3" / "pretrain").glob("20*/log.log"))
    assert len(logs) == 1, launched.stderr
    failure = logs[0]
    found = torch.load(output)
    two = {name: [Recording(**rank) for rank in ranks] for name, ranks in found.items()}
    lasted = time.time() - failure.stat().st_mtime
    end = Failure(launched.code, lasted, failure.read_text(), failure.parent.name)
    return Recorded(project, one, two, end)


def together(shares: list[list[list[int]]]) -> list[list[int]]:
    """The rows of each round, over all ranks."""
    return [
        sorted(row for share in rounds for row in share) for rounds in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_global_batches_are_the_same_in_the_same_order(recorded: Recorded, case: str) -> None:
    alone, ranks = recorded.one[case], recorded.two[case]
    assert together([rank.drawn for rank in ranks]) == together([alone.drawn])


@pytest.mark.parametrize("case", CASES)
def test_mining_chooses_the_same_pairs_over_all_ranks(recorded: Recorded, case: str) -> None:
    """The test is worth something only where the ranks' shares differ."""
    alone, ranks = recorded.one[case], recorded.two[case]
    assert together([rank.kept for rank in ranks]) == together([alone.kept])
    shares = {(len(a), len(b)) for a, b in zip(ranks[0].kept, ranks[1].kept, strict=True)}
    assert any(abs(a - b) > 1 for a, b in shares) == case.startswith("mined")
    assert (0 in {min(share) for share in shares}) == case.endswith("accumulated")


@pytest.mark.parametrize("case", [*CASES, "taught"])
def test_every_update_has_the_same_gradient(recorded: Recorded, case: str) -> None:
    alone, ranks = recorded.one[case], recorded.two[case]
    assert len(alone.gradients) == len(ranks[0].gradients) == len(ranks[1].gradients) > 3
    for expected, ours, theirs in zip(
        alone.gradients, ranks[0].gradients, ranks[1].gradients, strict=True
    ):
        assert torch.equal(ours, theirs)
        assert float((ours - expected).norm()) <= 1e-6 * float(expected.norm())


@pytest.mark.parametrize("case", CASES)
def test_every_update_has_the_same_rate(recorded: Recorded, case: str) -> None:
    """A schedule that accelerate prepared would step twice as fast on two."""
    alone, ranks = recorded.one[case], recorded.two[case]
    assert alone.rates == ranks[0].rates == ranks[1].rates
    assert alone.rates[-1] == pytest.approx(min(alone.rates))
    assert len(set(alone.rates)) == len(alone.rates)


@pytest.mark.parametrize("case", CASES)
def test_an_update_has_the_gradient_of_its_rounds_mean_losses(
    recorded: Recorded, case: str
) -> None:
    """Against plain autograd: no accelerate, no accumulation, no shares."""
    config = load_config(recorded.project.config, "pretrain", CASES[case][0])
    splits = open_splits(config, ("train",), one_process())
    planner = BatchPlanner.from_settings(
        splits.parts["train"], config.data.dataloader, config.training, 1, 47, splits.known
    )
    checkpoint = recorded.path("models", "pretrain", f"{case}-1") / "best_model"
    model = load_checkpoint(checkpoint).model
    alone = recorded.one[case]
    steps = 3 if case.endswith("accumulated") else 1
    for update in (0, len(alone.gradients) - 1):
        rounds = alone.kept[update * steps : (update + 1) * steps]
        epoch = update * config.training.epochs // len(alone.gradients)
        expected = gradient_of(model, planner.at(epoch), rounds)
        difference = alone.gradients[update] - expected
        assert float(difference.norm()) <= 1e-6 * float(expected.norm())


def gradient_of(model: PairModel, data: PairData, rounds: list[list[int]]) -> Tensor:
    """Of the mean over rounds of their mean loss, in the optimizer's order of parameters."""
    loss = PairLoss(LossConfig())
    means = []
    for rows in rounds:
        batch = whole_batch(data, rows)
        output = model(batch.proteins, batch.lengths, batch.pairs)
        means.append(loss.per_pair(output.logits, batch.labels).mean())
    parameters = sorted(model.parameters(), key=lambda p: p.dim() != 2)
    gradients = torch.autograd.grad(torch.stack(means).mean(), parameters)
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_a_loss_that_is_not_finite_stops_both_before_the_step(recorded: Recorded) -> None:
    """Both name the protein whose embedding is broken, and the first update is the only one.

    The round that holds it is not the last of its update, the only one that was looked at.
    """
    alone, ranks = recorded.one["poisoned"], recorded.two["poisoned"]
    victim = alone.poisoned
    assert victim not in alone.names[-1]
    for recording in (alone, *ranks):
        assert recording.poisoned == victim
        assert "the loss or its gradient is not finite" in recording.stopped
        assert f" {victim}" in recording.stopped
        assert len(recording.gradients) == 1
        assert bool(recording.gradients[0].isfinite().all())
    assert ranks[0].stopped == ranks[1].stopped
    assert not list(recorded.path("models", "pretrain", "poisoned-2").rglob("*.safetensors"))
    log = (recorded.path("logs", "pretrain", "poisoned-2") / "log.log").read_text()
    assert f" {victim}" in log.partition("stage_failed")[2]


def test_both_hold_out_the_same_proteins_and_choose_the_same_threshold(
    recorded: Recorded,
) -> None:
    tables, decisions = [], []
    for processes in (1, 2):
        run_id = f"held-out-{processes}"
        with (recorded.path("logs", "pretrain", run_id) / "validation.csv").open() as file:
            tables.append(list(csv.reader(file)))
        model = recorded.path("models", "pretrain", run_id) / "best_model"
        decisions.append(json.loads((model / "decision.json").read_text()))
    assert [row[:3] for row in tables[0]] == [row[:3] for row in tables[1]]
    numbers = [np.array([row[3:] for row in table[1:]], float) for table in tables]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    assert decisions[0]["assumed"] == decisions[1]["assumed"]
    assert decisions[0]["threshold"] == pytest.approx(decisions[1]["threshold"], rel=1e-6)
    assert decisions[0]["mode"] == decisions[1]["mode"] == "match_density"


def test_both_stop_early_after_the_same_epoch(recorded: Recorded) -> None:
    """Nothing improves on the first epoch; a patience of 2 ends it after the third of six."""
    for recording in (recorded.one["stalling"], *recorded.two["stalling"]):
        assert len(recording.gradients) == 3 * 5
    for processes in (1, 2):
        log = (recorded.path("logs", "pretrain", f"stalling-{processes}") / "log.log").read_text()
        events = [line.split(" | ")[0].split()[-1] for line in log.splitlines()]
        assert events[-3:] == ["early_stop", "csv_written", "stage_complete"]
        assert "early_stop | epoch=3 | best_epoch=1" in log


def test_a_checkpoint_has_the_same_figures_to_the_last_bit(recorded: Recorded) -> None:
    for name, holds in (
        ("evaluate.csv", "test_without_self_pairs,"),
        ("evaluate_intervals.json", '  "test_without_self_pairs": {'),
        ("baselines.csv", "v3,"),
    ):
        tables = [
            (recorded.path("logs", "evaluate", run_id) / name).read_text()
            for run_id in ("on_one", "on_two")
        ]
        assert tables[0] == tables[1]
        assert f"\n{holds}" in tables[0]


def test_validation_figures_are_the_same_to_the_last_bit(recorded: Recorded) -> None:
    """The weights stood still, so the models judged after the epochs are the same."""
    for case in CASES:
        states = [
            recorded.path("models", "pretrain", f"{case}-{processes}") / "last_state"
            for processes in (1, 2)
        ]
        rows = [json.loads((state / "progress.json").read_text())["rows"] for state in states]
        for ours, theirs in zip(*rows, strict=True):
            assert ours["val_loss"] == theirs["val_loss"]
            assert ours["val_metrics"] == theirs["val_metrics"]


def test_a_rank_that_fails_brings_the_other_down_with_its_reason(recorded: Recorded) -> None:
    """Rank 0 would wait for it in a collective for two hours."""
    failure = recorded.failure
    assert failure.code not in (0, None)
    assert failure.seconds < 60
    reasons = [line for line in failure.log.splitlines() if "stage_failed" in line]
    assert any("rank=1 | reason=RuntimeError: planted on rank 1" in line for line in reasons)


def test_rank_0_alone_dates_a_run(recorded: Recorded) -> None:
    """Each rank would name a folder of its own, an hour apart; the log would jump in time."""
    if not compiler():
        pytest.skip("there is no C compiler (cc) to shift a clock with")
    for zero, one in recorded.two.values():
        assert one.date - zero.date == pytest.approx(HOUR, abs=60)
    named = datetime.datetime.strptime(recorded.failure.run_id, "%Y%m%d-%H%M%S").timestamp()
    assert named == pytest.approx(time.time(), abs=HOUR / 2)


def test_rank_1_writes_nothing(recorded: Recorded) -> None:
    """One log with every event once, and no other; each artifact once."""
    logs = recorded.path("logs", "pretrain", "whole")
    assert sorted(entry.name for entry in logs.iterdir()) == [
        "audit.json", "config.yaml", "log.log", "training_curves.png", "training_step.csv",
    ]  # fmt: skip
    events = [line.split()[3] for line in (logs / "log.log").read_text().splitlines()]
    for once in ("pipeline_bootstrap", "embeddings_ready", "stage_start", "stage_complete"):
        assert events.count(once) == 1
    assert events.count("epoch_start") == events.count("epoch_complete") == 3
    models = recorded.path("models", "pretrain", "whole")
    assert sorted(entry.name for entry in models.iterdir()) == [
        "best_model", "epoch_001", "epoch_002", "epoch_003", "last_state",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_own_proteins_are_the_same_bytes(recorded: Recorded, name: str) -> None:
    one, two = (
        (recorded.project.folder / f"{run}_{name}").read_bytes() for run in ("on_one", "on_two")
    )
    assert one == two
    assert len(one.splitlines()) > 60
