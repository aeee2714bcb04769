"""`scripts/v3.sh` in its four modes, as a user runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT, Finished, TinyProject, make_project, run_command

pytestmark = pytest.mark.launch


def run_mode(project: TinyProject, *arguments: str, **environment: str) -> Finished:
    """The launcher with this interpreter's environment, one epoch, on one CPU process."""
    return run_command(
        ["bash", str(ROOT / "scripts" / "v3.sh"), *arguments],
        project.folder,
        VIRTUAL_ENV=sys.prefix,
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        ACCELERATE="--config_file accelerate_configs/cpu.yaml",
        SET="training_config.epochs=1",
        **environment,
    )


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Finished]:
    """A project after `full_pipeline`."""
    project = make_project(tmp_path_factory.mktemp("pipeline"))
    return project, run_mode(project, "full_pipeline", str(project.config))


def only_run(project: TinyProject, stage: str) -> Path:
    (run,) = (project.output / "models" / "v3" / stage).iterdir()
    return run / "best_model"


def log_of_newest(project: TinyProject, stage: str) -> str:
    logs = (project.output / "logs" / "v3" / stage).iterdir()
    newest = max(logs, key=lambda path: path.stat().st_mtime_ns)
    return (newest / "log.log").read_text()


def test_full_pipeline_passes_each_model_on_by_its_path(
    piped: tuple[TinyProject, Finished],
) -> None:
    project, finished = piped
    assert finished.code == 0, finished.stderr
    assert f"checkpoint={only_run(project, 'pretrain')}" in log_of_newest(project, "finetune")
    assert f"checkpoint={only_run(project, 'finetune')}" in log_of_newest(project, "evaluate")
    # It prints the tables of metrics under their heading, and nothing else.
    heading, *lines = finished.stdout.splitlines()
    assert heading.startswith("v3 on tiny BFS")
    assert ["split", "pairs"] in [line.split()[:2] for line in lines]


def test_pretrain_only_prints_the_model(project: TinyProject) -> None:
    finished = run_mode(project, "pretrain_only", str(project.config))
    assert finished.code == 0, finished.stderr
    assert finished.stdout.strip() == str(only_run(project, "pretrain"))
    assert not (project.output / "models" / "v3" / "finetune").exists()


def test_finetune_from_pretrain_starts_where_it_is_told(
    piped: tuple[TinyProject, Finished],
) -> None:
    project, _ = piped
    start = only_run(project, "pretrain")
    finished = run_mode(
        project, "finetune_from_pretrain", str(project.config), CHECKPOINT=str(start)
    )
    assert finished.code == 0, finished.stderr
    assert len(list((project.output / "models" / "v3" / "pretrain").iterdir())) == 1
    assert f"checkpoint={start}" in log_of_newest(project, "finetune")
    assert "models/v3/finetune/" in log_of_newest(project, "evaluate")


def test_eval_only_judges_what_it_is_told(piped: tuple[TinyProject, Finished]) -> None:
    project, _ = piped
    start = only_run(project, "pretrain")
    finished = run_mode(project, "eval_only", str(project.config), CHECKPOINT=str(start))
    assert finished.code == 0, finished.stderr
    assert f"checkpoint={start}" in log_of_newest(project, "evaluate")


def test_an_unknown_mode_shows_the_usage() -> None:
    finished = run_command(["bash", str(ROOT / "scripts" / "v3.sh"), "everything"], ROOT)
    assert finished.code == 2
    assert "full_pipeline" in finished.stderr


def test_a_stage_that_fails_stops_the_pipeline(project: TinyProject) -> None:
    fasta = next((project.folder / "data").rglob("*.fasta"))
    fasta.write_text("")
    finished = run_mode(project, "full_pipeline", str(project.config))
    assert finished.code != 0
    assert "pretrain.py: error: " in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (project.output / "logs" / "v3" / "finetune").exists()
