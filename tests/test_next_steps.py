"""How a run ends on the console: files, and commands that can be pasted."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common import next_steps
from common.next_steps import end_judging, end_training, find_launcher, name_command
from common.run import Run

OVERRIDES = [
    "data_config.benchmark.root_dir=my data",
    "training_config.epochs=2",
    "run_config.pretrain_run_id=mine",
    "run_config.output_dir=elsewhere",
    "data_config.dataloader.num_workers=3",
    "pretrain={training_config: {batch_size: 4}}",
    "pretrain.training_config.batch_size=4",
]
PASSED_ON = "--set 'data_config.benchmark.root_dir=my data' run_config.output_dir=elsewhere"


@pytest.fixture(autouse=True)
def _started_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["code/pretrain.py"])
    monkeypatch.setattr(next_steps, "find_launcher", lambda: ["python"])


def test_a_pretraining_ends_with_both_commands_that_may_follow(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the options that concern the next stage too, and none that belong to this one."""
    for name in ("log.log", "training_step.csv", "training_curves.png"):
        (run.log_dir / name).touch()
    arguments = argparse.Namespace(config="c d.yaml", overrides=OVERRIDES)
    model = Path("runs/best_model")
    end_training(run, arguments, model)
    shown = capsys.readouterr()
    options = f"--config 'c d.yaml' --checkpoint runs/best_model {PASSED_ON}"
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "",
        "Model    runs/best_model",
        f"Metrics  {run.log_dir / 'training_step.csv'}",
        f"Curves   {run.log_dir / 'training_curves.png'}",
        f"Log      {run.log_dir / 'log.log'}",
        "Train it further:",
        f"  python code/finetune.py {options}",
        "Evaluate it:",
        f"  python code/evaluate.py {options}",
    ]
    end_training(
        replace(run, stage="finetune"), argparse.Namespace(config="c", overrides=[]), model
    )
    shown = capsys.readouterr()
    assert "finetune.py" not in shown.err
    assert shown.err.endswith("  python code/evaluate.py --config c --checkpoint runs/best_model\n")


def test_a_judgement_ends_with_its_files_and_what_can_be_done_with_the_model(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("topology.csv", "evaluate.csv", "network.json", "b.png", "a.png"):
        (run.log_dir / name).touch()
    end_judging(run, Path("m/best_model"))
    fasta = "--fasta YOUR.fasta --output network.tsv"
    assert capsys.readouterr().err.splitlines() == [
        "",
        f"Metrics  {run.log_dir / 'evaluate.csv'} (topology.csv, network.json)",
        f"Plots    {run.log_dir / 'a.png'} (b.png)",
        "Model    m/best_model",
        "Score your own proteins with this model:",
        f"  python code/evaluate.py --checkpoint m/best_model {fasta}",
        "Compare all evaluated runs:",
        f"  python code/evaluate.py --compare {run.config.run.output_dir}",
    ]
    (run.log_dir / "report.html").touch()
    end_judging(run)
    shown = capsys.readouterr().err
    assert f"\nReport   {run.log_dir / 'report.html'}\n" in shown
    assert "Model" not in shown
    assert "--fasta" not in shown


LAUNCHES = {
    "/bin/python /bin/accelerate launch --quiet --config_file a.yaml x/pretrain.py --config c": (
        "accelerate launch --quiet --config_file a.yaml"
    ),
    "python -m accelerate.commands.launch --num_processes 2 pretrain.py --config c": (
        "accelerate launch --num_processes 2"
    ),
    "/bin/bash -c launch pretrain.py": "python",
    "accelerate launch other.py": "python",
    "": "python",
}


@pytest.mark.parametrize("words", LAUNCHES)
def test_commands_start_as_this_process_was_started(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "\0".join(words.split()))
    assert shlex.join(find_launcher()) == LAUNCHES[words]


def test_a_script_beside_this_one_is_named_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain.py"])
    assert name_command(["python"], "finetune.py", ["--a b"]) == "python finetune.py '--a b'"
