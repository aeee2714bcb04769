"""The entry scripts as a user starts them: artifacts, events, resume, and what they refuse."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from common.data.pair_hashes import hash_pairs
from common.data.tables.pairs import read_pairs
from common.errors import UserError
from tests.tiny_benchmark import ROOT, SPECIES, TinyProject, call_main, run_command

pytestmark = pytest.mark.launch

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) (\w+)( \| \w+=[^|]*)*$")


def events(log_dir: Path) -> list[str]:
    """The event names of a log, every line of which must be well formed."""
    names = []
    for line in (log_dir / "log.log").read_text().splitlines():
        match = LINE.match(line)
        assert match, line
        names.append(match[2])
    return names


def log_dir_of(checkpoint: Path) -> Path:
    """The log directory of the run whose best model this is."""
    parts = list(checkpoint.parent.parts)
    parts[len(parts) - 1 - parts[::-1].index("models")] = "logs"
    return Path(*parts)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_pretraining_leaves_what_the_contract_says(pretrained: tuple[TinyProject, Path]) -> None:
    _, best = pretrained
    logs = log_dir_of(best)
    assert sorted(p.name for p in best.iterdir()) == [
        "README.md",
        "config.json",
        "config.yaml",
        "decision.json",
        "model.safetensors",
        "training_pairs.npy",
        "training_proteins.npy",
    ]
    assert sorted(p.name for p in logs.iterdir()) == [
        "audit.json",
        "config.yaml",
        "log.log",
        "training_curves.png",
        "training_step.csv",
    ]
    header, *rows = read_csv(logs / "training_step.csv")
    assert header == [
        "Epoch", "Epoch Time", "Train Loss", "Val Loss", "Val auroc", "Val auprc", "Learning Rate",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["1", "2"]
    assert (logs / "training_curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((best / "config.yaml").read_text())["run_config"]["seed"] == 47
    assert json.loads((best / "decision.json").read_text())["threshold"] == 0.5


def test_pretraining_logs_its_events_in_order(pretrained: tuple[TinyProject, Path]) -> None:
    """75 pairs in batches of 8 are 10 steps; heartbeats are the first, every 4th and the last."""
    _, best = pretrained
    epoch = ["epoch_start", "step", "step", "step", "step", "epoch_complete"]
    expected = [
        "pipeline_bootstrap",
        "device_resolved",
        "audit_complete",
        "embeddings_ready",
        "data_ready",
        "model_ready",
        "stage_start",
        *epoch,
        "best_saved",
        *epoch,
        "csv_written",
        "stage_complete",
    ]
    seen = events(log_dir_of(best))
    second = seen.count("best_saved") == 2
    if second:
        expected.insert(-2, "best_saved")
    assert seen == expected


def test_finetune_and_evaluate_follow(pretrained: tuple[TinyProject, Path], tmp_path: Path) -> None:
    project, best = pretrained
    shutil.copytree(project.folder / "data", tmp_path / "data")
    train = tmp_path / "data/tiny/BFS/tiny_train_ppi.txt"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:50]) + "P003 P003 1\n")
    tuning = project.launch("finetune.py", "--checkpoint", str(best), "--set",
                            f"data_config.benchmark.root_dir={tmp_path / 'data'}")  # fmt: skip
    tuned = tuning.result
    assert "finetune" in tuned.parts
    # It lists the pairs of both stages.
    before, both = (np.load(path / "training_pairs.npy") for path in (best, tuned))
    own = hash_pairs(read_pairs(train, tmp_path))
    assert set(both) == {*before, *own} > set(before)
    # The command that the stage before names, with its own override.
    words = shlex.split(tuning.stderr.splitlines()[-1])
    assert words[0] == "python"
    assert words[-2:] == ["--set", f"data_config.benchmark.root_dir={tmp_path / 'data'}"]
    finished = project.run([sys.executable, *words[1:], "run_config.eval_run_id=judged"])
    assert finished.code == 0, finished.stderr
    assert f"checkpoint={tuned}" in finished.stderr
    for text in (tuning.stderr, finished.stdout, finished.stderr):
        assert not CONTROL.search(text), "nobody wants control characters in a job's log"
    logs = project.output / "logs" / "v3" / "evaluate" / "judged"
    header, *rows = read_csv(logs / "evaluate.csv")
    assert header == [
        "split", "auroc", "auprc", "accuracy", "sensitivity", "specificity", "precision",
        "recall", "f1", "mcc",
    ]  # fmt: skip
    # No protein is longer than 69 residues, and the sequences are random.
    assert [row[0] for row in rows] == [
        "test", "test_without_self_pairs", "test_seen0", "test_length_upto_400",
        "test_identity_below_30",
    ]  # fmt: skip
    assert [name for name in events(logs) if name != "metrics_undefined"] == [
        "pipeline_bootstrap", "device_resolved", "audit_complete", "embeddings_ready", "data_ready",
        "model_ready", "stage_start", "csv_written", "stage_complete",
    ]  # fmt: skip
    assert "auroc" in finished.stdout
    # The pairs and proteins of both stages, not those of the present benchmark alone.
    known = len(np.load(tuned / "training_proteins.npy"))
    sentence = f"the {known} training proteins of this benchmark among the {known}"
    assert sentence in " ".join(finished.stdout.split())


def test_the_default_checkpoint_is_the_newest_pretrained(
    pretrained: tuple[TinyProject, Path],
) -> None:
    project, best = pretrained
    finished = project.launch("finetune.py", "--set", "run_config.finetune_run_id=default_start")
    log = (log_dir_of(finished.result) / "log.log").read_text()
    assert f"checkpoint={best}" in log


USER_ERRORS = {
    "unknown key": (
        ["--set", "training_config.epoch=3"],
        r"--set: unknown key 'training_config.epoch'; did you mean 'training_config.epochs'\?",
    ),
    "wrong type": (["--set", "training_config.epochs=many"], r"training_config.epochs must be"),
    "no root": (
        ["--set", "data_config.benchmark.root_dir=/nowhere"],
        r"/nowhere.*data_config.benchmark.download",
    ),
    "no species": (["--set", "data_config.benchmark.species=mouse"], r"mouse.*tiny"),
    "no strategy": (["--set", "data_config.benchmark.split_strategy=DFS"], r"DFS"),
    "no model": (["--set", "model_config.model=v9"], r"unknown model 'v9'; choose from"),
    "width": (["--set", "model_config.input_dim=99"], r"input_dim is 99.*have 16 dimensions"),
    "no language model": (
        ["--set", "data_config.embeddings.model_name=/nowhere/esm"],
        r"data_config.embeddings.model_name",
    ),
    "no run to resume": (
        ["--resume", "--set", "run_config.output_dir=/tmp/relic-never-made"],
        r"there is no run to resume",
    ),
    "another config to resume": (
        ["--resume", "--set", "training_config.epochs=9"],
        r"training_config.epochs was 2 and is now 9",
    ),
    "a model that is a path": (
        ["--set", "model_config.model=../x"],
        r"model_config.model: unknown model '../x'",
    ),
    "no such model": (
        ["--set", "model_config.model=v4"],
        r"unknown model 'v4'; choose from v3, pooled, factorised",
    ),
    "heads that do not fit": (
        ["--set", "model_config.n_heads=3"],
        r"model_config.n_heads \(3\) must divide model_config.d_model",
    ),
    "a prefix of nothing": (
        [
            "--set",
            "pretrain.training_config.strategy.type=staged_unfreeze",
            "pretrain.training_config.strategy.initial_trainable_prefixes=[tail]",
        ],
        r"no parameter's name starts with 'tail'; choose from the model's parts: cls, cross",
    ),
    "a prefix of nothing for the stage after": (
        [
            "--set",
            "finetune.training_config.strategy.type=staged_unfreeze",
            "finetune.training_config.strategy.initial_trainable_prefixes=[heda]",
            "finetune.training_config.epochs=3",
        ],
        r"for finetune, training_config.strategy.initial_trainable_prefixes: .* 'heda'",
    ),
}


@pytest.mark.parametrize("case", USER_ERRORS)
def test_a_mistake_is_one_sentence(pretrained: tuple[TinyProject, Path], case: str) -> None:
    project, _ = pretrained
    arguments, message = USER_ERRORS[case]
    before = sorted(project.output.rglob("*.safetensors"))
    with pytest.raises(UserError, match=message) as refused:
        call_main(project, "pretrain.py", *arguments)
    assert "\n" not in str(refused.value)
    assert sorted(project.output.rglob("*.safetensors")) == before


def test_a_mistake_ends_the_script_with_one_line_and_code_2(project: TinyProject) -> None:
    pairs = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_train_ppi.txt"
    pairs.write_text("P001\tP002\t2\n")
    finished = project.launch("pretrain.py")
    assert finished.code == 2
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    told = [line for line in finished.stderr.splitlines() if line.startswith("pretrain.py: error:")]
    assert len(told) == 1
    assert f"{pairs}, line 1" in told[0]
    # A user once read the same sentence twice, and looked for the second mistake.
    assert finished.stderr.count("train_ppi.txt, line 1") == 1
    assert not list((project.output / "logs").rglob("*pretrain/*"))


BAD_FILES = {
    "label 2": ("BFS/{s}_train_ppi.txt", "P001\tP002\t2\n", r"train_ppi.txt, line 1: .*2"),
    "two columns": ("BFS/{s}_train_ppi.txt", "P001\tP002\n", r"train_ppi.txt, line 1"),
    "empty file": ("BFS/{s}_train_ppi.txt", "", r"train_ppi.txt.*(empty|no pairs)"),
    "digit in FASTA": ("{s}_simple.fasta", ">P001\nLAG1V\n", r"simple.fasta, line 2"),
    "two sequences": ("{s}_simple.fasta", ">P001\nLAG\n>P001\nLAV\n", r"simple.fasta.*P001"),
    "no sequence": ("{s}_simple.fasta", ">P001\nLAG\n", r"missing_sequences: drop"),
    "one class": (
        "BFS/{s}_val_ppi.txt",
        "P001\tP002\t1\n",
        r"validation pairs are of one class only",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_its_line(project: TinyProject, case: str) -> None:
    name, content, message = BAD_FILES[case]
    path = project.folder / "data" / SPECIES / name.format(s=SPECIES)
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        call_main(project, "pretrain.py")
    assert not list(project.output.rglob("config.yaml"))
    assert not list(project.output.rglob("training_step.csv"))


def test_a_run_id_is_not_used_twice_but_a_failed_start_does_not_use_it(
    project: TinyProject,
) -> None:
    """A start that failed on bad data may be repeated under its id once the data are mended."""
    named = ["--set", "run_config.pretrain_run_id=mine", "training_config.epochs=1"]
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    good = fasta.read_text()
    fasta.write_text("")
    with pytest.raises(UserError, match="contains no sequences"):
        call_main(project, "pretrain.py", *named)
    fasta.write_text(good)
    call_main(project, "pretrain.py", *named)
    with pytest.raises(UserError, match=r"mine exists already.*--resume"):
        call_main(project, "pretrain.py", *named)


def test_a_checkpoint_of_another_model_is_refused(pretrained: tuple[TinyProject, Path]) -> None:
    project, best = pretrained
    with pytest.raises(UserError, match=r"contains the model 'v3'.*is 'pooled'"):
        call_main(
            project, "evaluate.py", "--checkpoint", str(best), "--set", "model_config.model=pooled"
        )


def test_help_is_complete_and_quick_to_import() -> None:
    """`--help` names every option and needs neither torch nor transformers."""
    for script in ("pretrain.py", "finetune.py", "evaluate.py"):
        code = (
            f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
            f"try: runpy.run_path('{ROOT / script}', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
        )
        finished = run_command([sys.executable, "-c", code], ROOT)
        assert finished.code == 0, finished.stderr
        assert "--config FILE" in finished.stdout
        assert "--set KEY=VALUE" in finished.stdout
