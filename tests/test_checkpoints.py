"""Checkpoints and states: written whole, read back exactly, refused when they are not right."""

from __future__ import annotations

import contextlib
import json
import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from torch import nn

from common.config import Config
from common.errors import UserError
from common.files import temporary_beside
from common.models import PairModel, build_model
from common.run import CONFIG_FILE, Run
from common.training.checkpoints import (
    BEST_MODEL,
    LAST_STATE,
    Decision,
    check_fits,
    check_same_language_model,
    checksums_of,
    continue_model,
    load_checkpoint,
    load_state,
    newest_checkpoint,
    save_model,
    save_state,
    seal_progress,
)
from tests.tiny_pairs import MemoryStore, one_process

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


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has begun."""
    config = configure(run_config={"output_dir": str(tmp_path), "eval_run_id": "1e5"})
    logs, models = tmp_path / "logs", tmp_path / "models" / "v3" / "pretrain" / "one"
    logs.mkdir()
    begun = Run("pretrain", "one", config, one_process(), logs, models)
    begun.begin()
    return begun


def same_numbers(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_checkpoint_brings_back_model_config_and_decision(run: Run) -> None:
    model = model_of(run.config)
    path = save_model(run, model, DECISION)
    assert path == run.model_dir / BEST_MODEL
    loaded = load_checkpoint(path, "v3")
    assert same_numbers(loaded.model, model)
    assert loaded.config == run.config
    assert loaded.decision == DECISION
    assert [entry.name for entry in run.model_dir.iterdir()] == [BEST_MODEL]


def test_a_better_model_takes_the_place_of_the_best(run: Run) -> None:
    save_model(run, model_of(run.config, seed=0), DECISION)
    better = model_of(run.config, seed=1)
    loaded = load_checkpoint(save_model(run, better, replace(DECISION, epoch=4)))
    assert same_numbers(loaded.model, better)
    assert loaded.decision.epoch == 4


class Killed(BaseException):
    """Stands for the moment at which a process is killed."""


@pytest.mark.parametrize("moment", ["while writing", "half-way through the swap"])
def test_a_kill_while_saving_leaves_the_older_model(
    run: Run, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = model_of(run.config, seed=0)
    best = save_model(run, older, DECISION)
    with monkeypatch.context() as patch:
        if moment == "while writing":
            patch.setattr(PairModel, "save_pretrained", die_half_way)
        else:
            patch.setattr(Path, "rename", die_on_the_second_call(Path.rename))
        with pytest.raises(Killed):
            save_model(run, model_of(run.config, seed=1), DECISION)
    assert load_state(run) is None  # What a resumed run calls first.
    assert same_numbers(load_checkpoint(best).model, older)
    assert [entry.name for entry in run.model_dir.iterdir()] == [BEST_MODEL]


def test_what_a_kill_left_half_written_gets_into_no_later_checkpoint(run: Run) -> None:
    """A model of an epoch done again after a resume held the killed run's temporary files."""
    for name in ("epoch_002", LAST_STATE):
        junk = temporary_beside(run.model_dir / name)
        junk.mkdir(parents=True)
        (junk / ".config.yaml.0123.tmp").write_text("half")
    path = save_model(run, model_of(run.config), DECISION, name="epoch_002")
    assert len(list(path.iterdir())) == 4
    save_state(run, {"epoch": 2})
    assert not list((run.model_dir / LAST_STATE).glob(".*"))


def die_half_way(model: PairModel, directory: Path) -> None:
    directory.mkdir()
    (directory / "config.json").write_text("{")
    raise Killed


def die_on_the_second_call(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    calls: list[Path] = []

    def patched(source: Path, target: Path) -> Path:
        calls.append(source)
        if len(calls) == 2:
            raise Killed
        return rename(source, target)

    return patched


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "config.yaml", "decision.json"]
)
def test_a_directory_without_one_of_the_files_is_no_checkpoint(run: Run, name: str) -> None:
    path = save_model(run, model_of(run.config), DECISION)
    (path / name).unlink()
    with pytest.raises(UserError, match=rf"best_model is not a checkpoint .* no {name}; .*--check"):
        load_checkpoint(path)


DAMAGE: dict[str, tuple[str, Callable[[str], str], str]] = {
    "decision cut": ("decision.json", lambda s: s[:20], r"decision.json is damaged: "),
    "decision a list": ("decision.json", lambda s: "[1]", r"decision.json is damaged: "),
    "decision without its epoch": (
        "decision.json",
        lambda s: s.replace('"epoch"', '"epoche"'),
        r"decision.json is damaged: ",
    ),
    "a threshold in words": (
        "decision.json",
        lambda s: s.replace(str(0.1 + 0.2), '"high"'),
        r"decision.json is damaged: .*high",
    ),
    "config.yaml cut": ("config.yaml", lambda s: s[: s.index("d_model") + 4], r"config.yaml.*YAML"),
    "config.yaml with more": (
        "config.yaml",
        lambda s: s + "extra: 1\n",
        r"config.yaml, line \d+: unknown key 'extra'",
    ),
    "config.json cut": ("config.json", lambda s: s[:20], r"best_model cannot be read: "),
    "config.json empty": ("config.json", lambda s: "", r"best_model cannot be read: "),
    "config.json a number": ("config.json", lambda s: "5", r"best_model cannot be read: "),
    "config.json of another model": (
        "config.json",
        lambda s: json.dumps({"model_type": "relic-pooled"}),
        r"config.yaml is of the model V3Model, its config.json of a PooledConfig",
    ),
    "config.json of no model here": (
        "config.json",
        lambda s: json.dumps({"model_type": "esm"}),
        r"its config.json of a EsmConfig",
    ),
    "another width": (
        "config.json",
        lambda s: s.replace('"d_model": 8', '"d_model": 10'),
        r"does not fit the model 'v3': \d+ mismatched keys, the first is \('cls'",
    ),
    "a width in words": (
        "config.json",
        lambda s: s.replace('"d_model": 8', '"d_model": "wide"'),
        r"best_model cannot be read: ",
    ),
    "another activation": (
        "config.json",
        lambda s: s.replace('"gelu"', '"gulp"'),
        r"best_model cannot be read: .*gulp",
    ),
}


def seal(path: Path) -> None:
    """Make up the checksums of a changed checkpoint, so that other checks have their turn."""
    content = json.loads((path / "decision.json").read_text())
    (path / "decision.json").write_text(json.dumps({**content, "files": checksums_of(path)}))


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(run: Run, case: str) -> None:
    name, damage, message = DAMAGE[case]
    path = save_model(run, model_of(run.config), DECISION)
    before = (path / name).read_text()
    (path / name).write_text(damage(before))
    assert (path / name).read_text() != before
    if name == "config.json":
        with pytest.raises(UserError, match=r"config.json has changed since it was saved"):
            load_checkpoint(path, "v3")
        seal(path)
    with pytest.raises(UserError, match=message) as refused:
        load_checkpoint(path, "v3")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_model_is_refused(run: Run) -> None:
    path = save_model(run, model_of(run.config), DECISION)
    with pytest.raises(
        UserError, match=r"is of the model 'v3', but model_config.model is 'pooled'"
    ):
        load_checkpoint(path, "pooled")


def store_of(dim: int, language_model: str = "weights") -> MemoryStore:
    """Embeddings of a width, by a language model of this hash."""
    store = MemoryStore({"P": np.zeros((1, dim), dtype=np.float16)})
    store.language_model = language_model
    return store


def test_a_model_goes_on_with_other_dropout_but_not_as_another_one(run: Run) -> None:
    """Neither had any effect but on the configuration that was saved."""
    checkpoint = load_checkpoint(save_model(run, model_of(run.config), DECISION))
    settings = run.config.model
    more = settings.regularization.model_copy(update={"dropout": 0.4})
    dropping = settings.model_copy(update={"regularization": more})
    model = continue_model(checkpoint, run.config.model_copy(update={"model": dropping}))
    assert getattr(model.config, "dropout") == 0.4  # noqa: B009 (known to v3 alone)
    assert same_numbers(model, checkpoint.model)
    wider = run.config.model_copy(update={"model": settings.model_copy(update={"d_model": 64})})
    with pytest.raises(UserError, match=r"model_config.d_model is 64, but .* was trained with 8"):
        continue_model(checkpoint, wider)


def test_embeddings_of_another_width_are_refused_and_other_ones_told(run: Run) -> None:
    checkpoint = load_checkpoint(save_model(run, model_of(run.config), DECISION))
    assert check_fits(checkpoint, run.config, store_of(DIM)) == []
    assert check_fits(checkpoint, run.config, store_of(DIM, "others")) == [
        "the files of data_config.embeddings.model_name"
    ]
    check_same_language_model(checkpoint, store_of(DIM))
    with pytest.raises(UserError, match="its files have changed"):
        check_same_language_model(checkpoint, store_of(DIM, "others"))
    with pytest.raises(UserError, match=r"takes embeddings of 6 dimensions, but .* have 7; set"):
        check_fits(checkpoint, run.config, store_of(7))
    other = configure(
        data_config={"embeddings": {"layer": 3, "shard_mib": 8}, "max_sequence_length": 500}
    )
    assert check_fits(checkpoint, other, store_of(DIM)) == [
        "data_config.embeddings.layer",
        "data_config.max_sequence_length",
    ]


def test_the_newest_best_model_of_the_first_stage_that_has_one(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no best_model under .*finetune or .*pretrain; .*--check"):
        newest_checkpoint(run.config, ("finetune", "pretrain"))
    first = save_model(run, model_of(run.config), DECISION)
    second = save_model(replace(run, model_dir=run.model_dir.parent / "a"), model_of(run.config),
                        DECISION)  # fmt: skip
    assert newest_checkpoint(run.config, ("finetune", "pretrain")) == second
    save_model(run, model_of(run.config), DECISION)
    assert newest_checkpoint(run.config, ("finetune", "pretrain")) == first


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


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more into a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
    with pytest.raises(UserError, match=message + r".*restore it, or start a new run"):
        load_state(trained.run)


def test_a_state_of_more_processes_is_refused(run: Run) -> None:
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 2})
    path = run.model_dir / LAST_STATE / "progress.json"
    content = json.loads(path.read_text())
    del content["seal"]
    path.write_text(seal_progress({**content, "processes": 4}))
    with pytest.raises(UserError, match=r"saved by 4 processes and cannot go on exactly on 1"):
        load_state(trained.run)


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


def test_a_run_may_be_resumed_from_another_place(run: Run) -> None:
    trained = Trained.start(run, seed=0)
    save_state(trained.run, {"epoch": 2})
    moved = configure(run_config={"output_dir": "elsewhere", "save_best_only": False})
    assert load_state(replace(trained.run, config=moved)) is not None
