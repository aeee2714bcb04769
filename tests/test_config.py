"""The configuration: what it accepts, what it merges, and every sentence that it refuses with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.config import Config, Stage, known_keys
from common.config_data import METRIC_NAMES
from common.config_file import load_config
from common.errors import UserError
from tests.tiny_benchmark import ROOT

SHARED = "training_config:\n  epochs: 4\n  batch_size: 16\n"
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


def load(folder: Path, text: str, *overrides: str, stage: Stage = "pretrain") -> Config:
    path = folder / "c.yaml"
    path.write_text(text)
    return load_config(path, stage, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """The sentence that a config is refused with; the file's own path is left out of it."""
    with pytest.raises(UserError) as refused:
        load(folder, text, *overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


REFUSED = {
    "a slip in the last part": (
        "training_config:\n  epoch: 3\n",
        "c.yaml, line 2: unknown key 'training_config.epoch'; did you mean"
        " 'training_config.epochs'?",
    ),
    "a slip in a section's name": (
        "traning_config: {}\n",
        "c.yaml, line 1: unknown key 'traning_config'; did you mean 'training_config'?",
    ),
    "a slip in a stage's name": (
        "pretrian: {}\n",
        "c.yaml, line 1: unknown key 'pretrian'; did you mean 'pretrain'?",
    ),
    "a wrong section": (
        "run_config:\n  seed: 1\n  batch_size: 3\n",
        "c.yaml, line 3: unknown key 'run_config.batch_size'; did you mean"
        " 'training_config.batch_size'?",
    ),
    "no section at all": (
        "monitor_metric: auroc\n",
        "c.yaml, line 1: unknown key 'monitor_metric'; did you mean"
        " 'training_config.monitor_metric'?",
    ),
    "a slip under a stage": (
        SHARED + "finetune:\n  training_config:\n    epoch: 3\n",
        "c.yaml, line 6: unknown key 'finetune.training_config.epoch'; did you mean"
        " 'finetune.training_config.epochs'?",
    ),
    "nothing like it": ("x: 1\n", "c.yaml, line 1: unknown key 'x'; remove it"),
    "a number as key": (
        "1: 2\n",
        "c.yaml, line 1: not valid YAML: the key '1' is not a string; quote it or remove it",
    ),
    "text for a number": (
        "training_config:\n  epochs: many\n",
        "c.yaml, line 2: training_config.epochs must be a valid integer, not 'many' (a string)",
    ),
    "a quoted number": (
        "training_config:\n  epochs: '5'\n",
        "c.yaml, line 2: training_config.epochs must be a valid integer, not '5' (a string)",
    ),
    "a yes for a number": (
        "training_config:\n  epochs: yes\n",
        "c.yaml, line 2: training_config.epochs must be a valid integer, not True",
    ),
    "a fraction for a count": (
        "training_config:\n  epochs: 1e1\n",
        "c.yaml, line 2: training_config.epochs must be a valid integer, not 10.0",
    ),
    "a number for a text": (
        "run_config:\n  pretrain_run_id: 20240101\n",
        "c.yaml, line 2: run_config.pretrain_run_id must be a valid string, not 20240101",
    ),
    "out of range": (
        "training_config:\n  epochs: 0\n",
        "c.yaml, line 2: training_config.epochs must be greater than or equal to 1, not 0",
    ),
    "infinite": (
        "training_config:\n  optimizer: {lr: .inf}\n",
        "c.yaml, line 2: training_config.optimizer.lr must be a finite number, not inf",
    ),
    "not a choice": (
        "evaluate:\n  decision_threshold:\n    mode: guess\n",
        "c.yaml, line 3: evaluate.decision_threshold.mode: unknown threshold mode 'guess';"
        " choose from fixed, best_f1_on_valid, match_density, precision",
    ),
    "a slip in a choice": (
        "evaluate:\n  tasks: [pairs, topolgy]\n",
        "c.yaml, line 2: evaluate.tasks: unknown task 'topolgy'; did you mean 'topology'?",
    ),
    "text for a list": (
        "evaluate:\n  metrics: auroc\n",
        "c.yaml, line 2: evaluate.metrics must be a list, such as [a, b], not 'auroc' (a string)",
    ),
    "a list for a section": (
        "run_config: []\n",
        "c.yaml, line 1: 'run_config' must be a section (key: value lines), not []",
    ),
    "an empty section": (
        "run_config:\n",
        "c.yaml, line 1: 'run_config' must be a section (key: value lines), not empty",
    ),
    "a number for a stage": (
        "finetune: 5\n",
        "c.yaml: 'finetune' must be a section (key: value lines)",
    ),
    "a key twice": (
        "run_config:\n  seed: 1\n  seed: 2\n",
        "c.yaml, line 3: not valid YAML: the key 'seed' is defined twice (duplicate key)",
    ),
    "a bracket left open": (
        "run_config:\n  seed: [1\n",
        "c.yaml, line 3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    ),
    "a tab as indent": (
        "run_config:\n\tseed: 1\n",
        "c.yaml, line 2: not valid YAML: found character '\\t' that cannot start any token",
    ),
    "a Python object": (
        "run_config: !!python/object/apply:os.system [false]\n",
        "c.yaml, line 1: not valid YAML: could not determine a constructor for the tag"
        " 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    "a list in itself": (
        "a: &a [*a]\n",
        "c.yaml, line 1: not valid YAML: more than 50 levels or 10000 values, with aliases"
        " expanded",
    ),
    "an empty file": (
        "# nothing\n",
        "c.yaml contains no sections; add run_config, data_config, …",
    ),
    "a list as file": (
        "- run_config\n",
        "c.yaml contains no sections; add run_config, data_config, …",
    ),
    "staged without prefixes": (
        "training_config:\n  strategy: {type: staged_unfreeze}\n",
        "c.yaml, line 2: training_config.strategy: staged_unfreeze needs"
        " initial_trainable_prefixes, such as [head]",
    ),
    "unfreezing after the end, in one stage": (
        SHARED + "finetune:\n  training_config:\n    strategy: {type: staged_unfreeze,"
        " unfreeze_epoch: 4, initial_trainable_prefixes: [head]}\n",
        "c.yaml, line 4 (for finetune): training_config.strategy.unfreeze_epoch (4) must be below"
        " training_config.epochs (4)",
    ),
    "a pool too small": (
        "data_config: {dataloader: {sampling: {strategy: ohem, min_keep: 65,"
        " pool_multiplier: 2}}}\n",
        "c.yaml: data_config.dataloader.sampling.min_keep (65) is larger than the pool of"
        " pool_multiplier * batch_size = 64 pairs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    assert refusal(tmp_path, text) == message


def test_a_pool_may_be_kept_as_a_whole() -> None:
    sampling = {"strategy": "ohem", "min_keep": 64, "pool_multiplier": 2}
    config = Config.model_validate({"data_config": {"dataloader": {"sampling": sampling}}})
    assert config.training.batch_size == 32


SET_REFUSED = {
    "unknown": (
        "training_config.epoch=3",
        "--set: unknown key 'training_config.epoch'; did you mean 'training_config.epochs'?",
    ),
    "unknown below a stage": (
        "finetune.training_config.epoch=3",
        "--set: unknown key 'finetune.training_config.epoch'; did you mean"
        " 'finetune.training_config.epochs'?",
    ),
    "a section that does not exist": (
        "data_config.interaction.files=[a]",
        "--set: unknown key 'data_config.interaction'; did you mean 'data_config.interactions'?",
    ),
    "wrong type": (
        "training_config.epochs=many",
        "--set: training_config.epochs must be a valid integer, not 'many' (a string)",
    ),
    "wrong type in a whole section": (
        "training_config={epochs: many}",
        "--set: training_config.epochs must be a valid integer, not 'many' (a string)",
    ),
    "wrong type below a stage": (
        "finetune.training_config.epochs=many",
        "--set: finetune.training_config.epochs must be a valid integer, not 'many' (a string)",
    ),
    "empty": (
        "training_config.epochs=",
        "--set: training_config.epochs must be a valid integer, not empty",
    ),
    "below a number": (
        "training_config.epochs.x=1",
        "--set: training_config.epochs must be a valid integer, not {'x': 1}",
    ),
    "no value": (
        "training_config.epochs",
        "--set takes key.path=value, such as training_config.epochs=5, not"
        " 'training_config.epochs'",
    ),
    "no key": ("=5", "--set takes key.path=value, such as training_config.epochs=5, not '=5'"),
    "not YAML": (
        "training_config.epochs=[1",
        "--set training_config.epochs: the value '[1' is not valid YAML; correct or quote the"
        " value",
    ),
    "a date that is none": (
        "training_config.epochs=2020-13-45",
        "--set training_config.epochs: the value '2020-13-45' is not valid YAML; correct or quote"
        " the value",
    ),
}


@pytest.mark.parametrize("case", SET_REFUSED)
def test_a_mistake_in_set_says_so(tmp_path: Path, case: str) -> None:
    assignment, message = SET_REFUSED[case]
    assert refusal(tmp_path, SHARED, assignment) == message


@pytest.mark.parametrize("given", ["shared", "stage", "set", "set for a stage"])
def test_device_settings_are_sent_to_accelerate(tmp_path: Path, given: str) -> None:
    """Given by --set, or below a stage, it was merely an unknown key."""
    text, overrides, where = SHARED, [], "c.yaml"
    if given == "shared":
        text += "device_config: {device: cuda}\n"
    elif given == "stage":
        text += "finetune:\n  device_config: {device: cuda}\n"
    else:
        stage = "pretrain." if given == "set for a stage" else ""
        overrides, where = [f"{stage}device_config.device=cuda"], "--set"
    message = refusal(tmp_path, text, *overrides)
    assert message.startswith(f"{where}: device_config is not a section of the configuration")
    assert "`accelerate config` or accelerate_configs/*.yaml" in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the config .*none.yaml: No such file.*--con"):
        load_config(tmp_path / "none.yaml", "pretrain")
    with pytest.raises(UserError, match=r"cannot read the config .*: Is a directory"):
        load_config(tmp_path, "pretrain")
    (tmp_path / "latin.yaml").write_bytes("run_config: {output_dir: Läufe}".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.yaml is not a text file in UTF-8"):
        load_config(tmp_path / "latin.yaml", "pretrain")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_text(SHARED, encoding="utf-8-sig")
    assert load_config(tmp_path / "bom.yaml", "pretrain").training.epochs == 4


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", "+1e-4", "0.0001"])
def test_exponents_are_numbers(tmp_path: Path, text: str) -> None:
    """YAML 1.1 reads 1e-4 as a text."""
    config = load(tmp_path, f"training_config: {{optimizer: {{lr: {text}}}}}\n")
    assert config.training.optimizer.lr == 1e-4
    assert load(tmp_path, SHARED, f"training_config.optimizer.lr={text}") == load(
        tmp_path, SHARED + f"  optimizer: {{lr: {text}}}\n"
    )


def test_a_stage_overrides_the_shared_sections_for_itself_alone(tmp_path: Path) -> None:
    text = SHARED + "finetune:\n  training_config:\n    epochs: 2\n    optimizer: {lr: 0.5}\n"
    found = {stage: load(tmp_path, text, stage=stage).training for stage in stages()}
    assert [found[stage].epochs for stage in stages()] == [4, 2, 4]
    assert [found[stage].optimizer.lr for stage in stages()] == [1e-4, 0.5, 1e-4]
    # What the stage does not name stays as shared.
    assert [found[stage].batch_size for stage in stages()] == [16, 16, 16]


def stages() -> tuple[Stage, Stage, Stage]:
    return "pretrain", "finetune", "evaluate"


def test_set_wins_over_the_file_and_over_its_stage(tmp_path: Path) -> None:
    text = SHARED + "finetune:\n  training_config: {epochs: 2}\n"
    shared = [load(tmp_path, text, "training_config.epochs=7", stage=s) for s in stages()]
    assert [config.training.epochs for config in shared] == [7, 7, 7]
    one = [load(tmp_path, text, "finetune.training_config.epochs=9", stage=s) for s in stages()]
    assert [config.training.epochs for config in one] == [4, 9, 4]


def test_set_makes_the_sections_that_the_file_lacks(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        SHARED,
        "pretrain.training_config.scheduler.type=constant",
        "evaluate.metrics=[f1, mcc]",
        "run_config.pretrain_run_id=null",
    )
    assert config.training.scheduler.type == "constant"
    assert config.training.epochs == 4
    assert config.evaluate.metrics == ("f1", "mcc")
    assert config.run.pretrain_run_id is None


def test_every_stage_is_checked_not_only_the_one_that_runs(tmp_path: Path) -> None:
    """A slip under `finetune:` should not surface after a day of pretraining."""
    text = SHARED + "finetune:\n  training_config: {epochs: -1}\n"
    with pytest.raises(UserError, match=r"line 5: finetune\.training_config\.epochs"):
        load(tmp_path, text, stage="evaluate")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", stages())
def test_a_shipped_config_comes_back_from_its_resolved_form(
    tmp_path: Path, path: Path, stage: Stage
) -> None:
    config = load_config(path, stage)
    assert load(tmp_path, config.to_yaml(), stage=stage) == config


def test_texts_that_look_like_something_else_come_back_as_texts(tmp_path: Path) -> None:
    """The run id "1e5" was saved without quotes and read back as the number 100000.0."""
    ids = ["1e5", "12", "1.5", "null", "yes", "2024-01-01"]
    for text in ids:
        config = load(tmp_path, SHARED, f"run_config.eval_run_id='{text}'")
        assert config.run.eval_run_id == text
        assert load(tmp_path, config.to_yaml()) == config


def test_the_resolved_form_names_every_key() -> None:
    content = yaml.safe_load(Config().to_yaml())
    for key in known_keys():
        node = content
        for part in key.split("."):
            assert part in node, key
            node = node[part]
    assert content["run_config"]["seed"] == 47
    assert tuple(content["evaluate"]["metrics"]) == METRIC_NAMES
