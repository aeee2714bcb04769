"""The state of a run: written whole, read back exactly, refused when it is not right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from common.config import known_keys
from common.data.batches import PairData
from common.errors import UserError
from common.inference.checkpoints import BEST_MODEL, load_checkpoint, save_model
from common.run import CONFIG_FILE, OneProcess, Run, open_run
from common.training.progress import Progress
from common.training.resume import (
    IGNORED_KEYS,
    LAST_STATE,
    MAY_DIFFER,
    digest_data,
    find_state,
    load_state,
    save_state,
    seal_progress,
)
from common.training.session import open_progress
from tests.tiny_pairs import make_pairs, one_process
from tests.tiny_run import (
    DECISION,
    SMALL,
    Killed,
    configure,
    die_on_the_second_call,
    files_of_at_most,
    model_of,
    same_numbers,
)


@dataclass
class Trained:
    """A prepared model and optimizer that have made a few updates."""

    run: Run
    model: Any
    optimizer: Any

    @classmethod
    def start(cls, run: Run, seed: int, accumulation: int = 1) -> Trained:
        """As in a fresh process: a new accelerator, new weights."""
        accelerator: Accelerator = one_process()
        accelerator.gradient_accumulation_steps = accumulation
        torch.manual_seed(seed)
        plain = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=0.1))
        return cls(replace(run, accelerator=accelerator), model, optimizer)

    def train(self, rounds: int) -> None:
        """Rounds whose batches and dropout come from the global random states."""
        for _ in range(rounds):
            with self.run.accelerator.accumulate(self.model):
                scale = random.random() + float(np.random.rand())
                self.run.accelerator.backward(scale * self.model(torch.randn(5, 3)).sum())
                self.optimizer.step()
                self.optimizer.zero_grad()


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_state_brings_back_weights_optimizer_and_random_states(
    run: Run, accumulation: int
) -> None:
    """Training goes on as if it had never stopped, accumulation in step."""
    whole = Trained.start(run, seed=0, accumulation=accumulation)
    whole.train(6)
    save_state(whole.run, {"epoch": 2})
    whole.train(6)
    again = Trained.start(run, seed=1, accumulation=accumulation)
    content = load_state(again.run)
    assert content is not None
    assert content["epoch"] == 2
    assert again.run.accelerator.step == 6
    again.train(6)
    assert same_numbers(again.model, whole.model)
    ours, theirs = again.optimizer.state_dict(), whole.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for key, moments in theirs["state"].items():
        assert all(torch.equal(ours["state"][key][name], moments[name]) for name in moments)


def test_a_resumed_run_clears_what_was_half_written_beside_its_log(run: Run) -> None:
    (run.log_dir / ".training_step.csv.0123456789ab.tmp").write_text("Epoch,")
    load_state(run)
    assert [entry.name for entry in run.log_dir.iterdir()] == [CONFIG_FILE]


def test_a_kill_while_saving_a_state_leaves_the_older_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die_on_the_second_call(Path.rename))
        with pytest.raises(Killed):
            save_state(trained.run, {"epoch": 2})
    content = load_state(trained.run)
    assert content is not None
    assert content["epoch"] == 1


@pytest.mark.parametrize("size", [100, 2000, 8000])
def test_a_full_disk_is_told_and_leaves_what_was_there(run: Run, size: int) -> None:
    """Each library has its own error for it, none of them an OSError."""
    trained, model = Trained.start(run, seed=0), model_of(run.config)
    trained.train(1)
    save_model(run, model, DECISION)
    save_state(trained.run, {"epoch": 1})
    with (
        files_of_at_most(size),
        pytest.raises(UserError, match=r"cannot write .*best_model \(\d+ bytes\)"),
    ):
        save_model(run, model_of(run.config, seed=1), DECISION)
    with (
        files_of_at_most(min(size, 2000)),
        pytest.raises(UserError, match=r"last_state \(\d+ bytes\): "),
    ):
        save_state(trained.run, {"epoch": 2})
    content = load_state(trained.run)
    assert content is not None
    assert content["epoch"] == 1
    assert same_numbers(load_checkpoint(run.model_dir / BEST_MODEL).model, model)


def test_without_a_state_there_is_nothing_to_load(run: Run) -> None:
    assert load_state(run) is None


def damage_progress(state: Path) -> None:
    (state / "progress.json").write_text("{")


def remove_progress(state: Path) -> None:
    (state / "progress.json").unlink()


def damage_file(name: str) -> Callable[[Path], None]:
    def flip(state: Path) -> None:
        content = bytearray((state / name).read_bytes())
        content[len(content) // 2] ^= 1
        (state / name).write_bytes(content)

    return flip


def remove_file(name: str) -> Callable[[Path], None]:
    return lambda state: (state / name).unlink()


STATE_FILES = ("model.safetensors", "optimizer.bin", "random_states_0.pkl")
STATE_DAMAGE = {
    "progress damaged": (damage_progress, r"last_state/progress.json cannot be read \("),
    "progress gone": (remove_progress, r"last_state/progress.json cannot be read \("),
    **{f"{f} flipped": (damage_file(f), rf"last_state/{f} has changed since") for f in STATE_FILES},
    **{f"{f} gone": (remove_file(f), rf"last_state/{f} is missing, so") for f in STATE_FILES},
}


@pytest.mark.parametrize("case", STATE_DAMAGE)
def test_a_damaged_state_is_refused(run: Run, case: str) -> None:
    """The library went on without random states that it could not read: not the same run."""
    damage, message = STATE_DAMAGE[case]
    trained = Trained.start(run, seed=0)
    trained.train(1)
    save_state(trained.run, {"epoch": 2})
    damage(run.model_dir / LAST_STATE)
    with pytest.raises(UserError, match=message + r".*restore the saved state, or start"):
        load_state(trained.run)


def test_a_state_of_more_processes_is_refused(run: Run) -> None:
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 2})
    path = run.model_dir / LAST_STATE / "progress.json"
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(seal_progress({**content, "processes": 4}))
    with pytest.raises(UserError, match=r"processes=4 and cannot be resumed exactly with proc.*=1"):
        load_state(trained.run)


def test_a_state_of_another_precision_is_refused(run: Run) -> None:
    """With fp16 the library missed a file; with bfloat16 it went on, to other numbers."""
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 2})
    AcceleratorState._reset_state(reset_partial_state=True)
    other = Accelerator(cpu=True, mixed_precision="bf16")
    with pytest.raises(UserError, match=r"with mixed_precision=no and .*_precision=bf16"):
        load_state(replace(run, accelerator=other))


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("run_config", {"seed": 48}, r"run_config.seed was 47 and is now 48"),
        ("training_config", {"epochs": 3}, r"training_config.epochs was 10 and is now 3"),
        (
            "data_config",
            {"dataloader": {"sampling": {"strategy": "ohem"}}},
            r"data_config.dataloader.sampling.strategy was none and is now ohem",
        ),
        # These two enter the stored decision, and validation's last bits.
        (
            "evaluate",
            {"decision_threshold": {"value": 0.4}},
            r"evaluate.decision_threshold.value was 0.5 and is now 0.4",
        ),
        (
            "evaluate",
            {"scoring": {"tile_residues": 99}},
            r"evaluate.scoring.tile_residues was auto and is now 99",
        ),
    ],
)
@pytest.mark.parametrize("saved", [True, False])
def test_another_configuration_cannot_resume(
    run: Run, section: str, key: dict[str, Any], message: str, saved: bool
) -> None:
    """Another seed went unnoticed, as did whatever was changed before the first state."""
    trained = Trained.start(run, seed=0)
    if saved:
        save_state(trained.run, {"epoch": 2})
    content = yaml.safe_load((run.log_dir / CONFIG_FILE).read_text())
    other = configure(**{section: key, "model_config": SMALL})
    with pytest.raises(UserError, match=message):
        load_state(replace(trained.run, config=other))
    assert yaml.safe_load((run.log_dir / CONFIG_FILE).read_text()) == content


def test_the_newest_run_that_can_be_resumed_is_named(tmp_path: Path) -> None:
    """After a run with other epochs, `--resume` alone took that run and only refused it."""

    def begin(run_id: str | None, epochs: int, state: bool = True, resume: bool = False) -> None:
        named = {"output_dir": str(tmp_path), "pretrain_run_id": run_id}
        config = configure(run_config=named, training_config={"epochs": epochs})
        with open_run("pretrain", config, OneProcess(), resume) as run:
            if resume:
                find_state(run)
            run.begin()
            if state:
                (run.model_dir / LAST_STATE).mkdir(parents=True)

    for run_id, epochs, state in (("1", 7, True), ("2", 7, True), ("3", 7, False), ("4", 9, True)):
        begin(run_id, epochs, state)
    with pytest.raises(UserError, match=r"epochs was 9 and is now 7; .*pretrain_run_id=2$"):
        begin(None, 7, resume=True)
    with pytest.raises(UserError, match=r"was 9 and is now 8; resume with the configuration"):
        begin(None, 8, resume=True)
    with pytest.raises(UserError, match=r"was 9 and is now 7; resume with the configuration"):
        begin("4", 7, resume=True)


# A changed key of each group of those that are ignored.
IGNORED: dict[str, dict[str, Any]] = {
    "names and places of the run's own files": {
        "run_config": {"output_dir": "elsewhere", "save_best_only": False}
    },
    "where the data are, how they get there, and whether they are audited": {
        "data_config": {
            "audit": "off",
            "benchmark": {"root_dir": "moved", "cache_dir": "other", "download": True},
            "embeddings": {"cache_dir": "other", "shard_mib": 1},
        }
    },
    "how fast batches arrive, how often a step is logged, and where to": {
        "run_config": {"trackers": ["tensorboard"]},
        "data_config": {"dataloader": {"num_workers": 2, "pin_memory": True}},
        "training_config": {"logging": {"heartbeat_every_n_steps": 3}},
    },
    "how long the ranks wait for one that is lost": {"run_config": {"rank_timeout_seconds": 7}},
    "what only evaluate.py reads": {
        "evaluate": {"metrics": ["f1"], "tasks": ["topology"], "cross_species": ["yeast"]}
    },
}


def test_keys_that_no_number_follows_from_may_differ(run: Run) -> None:
    """That the resumed run has the same bits is tested in test_pauses.py."""
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 2})
    assert set(IGNORED) == set(IGNORED_KEYS)
    for sections in IGNORED.values():
        other = configure(**yaml_types(sections))
        assert load_state(replace(trained.run, config=other)) is not None
    known = set(known_keys())
    assert [key for key in MAY_DIFFER if key not in known] == []


def yaml_types(sections: dict[str, Any]) -> dict[str, Any]:
    """Lists as the configuration's reader gives them."""
    return {
        key: tuple(value)
        if isinstance(value, list)
        else yaml_types(value)
        if isinstance(value, dict)
        else value
        for key, value in sections.items()
    }


def test_other_data_in_the_same_place_cannot_be_resumed_on() -> None:
    """The place may change, so the data themselves are compared: each part of them."""
    pairs = make_pairs(20)
    digest = digest_data({"train": pairs})
    assert digest == digest_data({"train": make_pairs(20)})
    assert digest != digest_data({"train": make_pairs(21)})
    for change in (change_label, change_pair, change_name, change_length, change_language_model):
        other = make_pairs(20)
        change(other)
        assert digest_data({"train": other}) != digest, change.__name__


def test_a_run_is_not_resumed_on_other_data(run: Run) -> None:
    trained = Trained.start(run, seed=0)
    scheduler = LambdaLR(torch.optim.SGD([torch.zeros(1)]), lambda _: 1.0)
    progress = Progress(epoch=2, scheduler=scheduler.state_dict(), data="these")
    save_state(trained.run, asdict(progress))
    resumed = replace(trained.run, resuming=True)
    assert open_progress(trained.run, scheduler, "these") == Progress(data="these")
    assert open_progress(resumed, scheduler, "these").epoch == 2
    with pytest.raises(UserError, match=r"cannot resume .* have changed since the run was started"):
        open_progress(resumed, scheduler, "others")


def change_label(data: PairData) -> None:
    data.table.labels[4] ^= 1


def change_pair(data: PairData) -> None:
    data.table.pairs[5] = data.table.pairs[5][::-1]


def change_name(data: PairData) -> None:
    data.table = replace(data.table, proteins=("Q", *data.table.proteins[1:]))


def change_length(data: PairData) -> None:
    data.residues[2] += 1


def change_language_model(data: PairData) -> None:
    data.store.language_model = "another"
