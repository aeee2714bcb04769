"""The whole pipeline by `scripts/`: on a miniature always, in full size where it is asked for.

RELIC_RUN_LOCAL_E2E=1 python -m pytest tests/test_pipeline.py    scripts/demo.sh, 5 minutes
RELIC_RUN_HPC_E2E=1 python -m pytest tests/test_pipeline.py      the demo's config under the
                                                                 machine's `accelerate config`
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from common.data.benchmarks.demo.generate import ensure_demo
from common.evaluation.tasks import pairs, topology
from tests.tiny_benchmark import ROOT
from tests.tiny_demo import MINIATURE

pytestmark = pytest.mark.launch

TRAINING_HEADER = [
    "Epoch", "Epoch Time", "Train Loss", "Val Loss", "Val auroc", "Val auprc", "Val f1",
    "Learning Rate",
]  # fmt: skip
TRAINED = {"audit.json", "config.yaml", "log.log", "training_curves.png", "training_step.csv"}
JUDGED = {"audit.json", "config.yaml", "log.log", "predictions.txt.gz", "evaluate.csv",
          "evaluate_intervals.json", "topology.csv", "functional.json", "topology.png",
          "degrees.png", "essential_proteins.png", "ranking.png", "scores.png"}  # fmt: skip


def golden_events() -> dict[str, list[str]]:
    lines = (ROOT / "tests" / "golden" / "demo_events.txt").read_text().splitlines()
    stages = [line.split(": ") for line in lines if not line.startswith("#")]
    return {stage: events.split() for stage, events in stages}


def told_events(log: Path) -> list[str]:
    """The events of a log, but for two kinds; an epoch, and repetitions, count as one."""
    names = [line.split()[3] for line in log.read_text().splitlines()]
    # How often these are logged follows from the machine's speed, and from the data.
    names = [name for name in names if name not in ("progress", "audit_warning")]
    single = [name for before, name in zip(["", *names], names, strict=False) if name != before]
    epoch = r"epoch_start step epoch_complete( best_saved)?"
    return re.sub(epoch, "epoch", " ".join(single)).split()


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def check_artifacts(runs: Path, model: str) -> None:
    """Events, CSV headers, files and weights of one model's three stages."""
    for stage, expected in golden_events().items():
        folders = list((runs / "logs" / model / stage).glob("*/"))
        if model == "pooled" and stage == "finetune":
            assert not folders
            continue
        (folder,) = folders
        events = told_events(folder / "log.log")
        assert [name for name in events if name != "epoch"] == [
            name for name in expected if name != "epoch"
        ]
        files = {path.name for path in folder.iterdir()}
        if stage == "evaluate":
            assert files >= JUDGED
            assert header(folder / "evaluate.csv") == list(pairs.HEADER)
            assert header(folder / "topology.csv") == list(topology.HEADER)
            continue
        assert files == TRAINED
        assert header(folder / "training_step.csv") == TRAINING_HEADER
        if model == "v3":
            assert events == expected
        (best,) = (runs / "models" / model / stage).glob("*/best_model")
        with safe_open(best / "model.safetensors", "pt") as weights:
            assert all(weights.get_tensor(name).isfinite().all() for name in weights.keys())  # noqa: SIM118


def run_script(*command: str, settings: list[str], folder: Path, accelerate: str | None) -> str:
    """A shell script of the project in the interpreter's environment; what it prints."""
    environment = {**os.environ, "SET": " ".join(settings), "VIRTUAL_ENV": sys.prefix}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    if accelerate is not None:
        environment["ACCELERATE"] = accelerate
    done = subprocess.run(
        ["bash", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def settings_for(demo: Path, folder: Path) -> list[str]:
    """The demo's config on a benchmark and in an output folder of one's own."""
    return [
        f"run_config.output_dir={folder / 'runs'}",
        f"data_config.benchmark.root_dir={demo}",
        f"data_config.benchmark.functional_dir={demo / 'functional'}",
        f"data_config.benchmark.cache_dir={folder / 'cache'}",
        f"data_config.embeddings.model_name={demo / 'esm'}",
        f"data_config.embeddings.cache_dir={folder / 'embeddings'}",
    ]


def test_the_demos_logs_tell_the_golden_events_in_order(tmp_path: Path) -> None:
    """On a miniature of its benchmark, which takes seconds instead of minutes."""
    demo = ensure_demo(tmp_path / "mini", 47, MINIATURE)
    settings = [*settings_for(demo, tmp_path), "data_config.benchmark.name=pring"]
    story = run_script(
        str(ROOT / "scripts" / "demo.sh"),
        settings=settings, folder=ROOT, accelerate="--config_file accelerate_configs/cpu.yaml",
    )  # fmt: skip
    check_artifacts(tmp_path / "runs", "v3")
    check_artifacts(tmp_path / "runs", "pooled")
    check_story(story, tmp_path / "runs")


def check_story(story: str, runs: Path) -> None:
    """The demo is told on a screen, says once that its data are made up, and names what exists."""
    assert len(story.splitlines()) <= 40
    assert story.count("SYNTHETIC") == 1
    assert story.replace("\n", "").isprintable()
    named = [Path(word) for word in story.split() if word.startswith(str(runs))]
    assert len(named) >= 6
    assert all(path.exists() for path in named)
    with (runs / "demo" / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["v3 (finetune)", "pooled (pretrain)"]
    assert f"{float(rows[0]['auroc']):.4f}" in story


def test_the_demo_explains_itself_and_takes_no_arguments() -> None:
    script = str(ROOT / "scripts" / "demo.sh")
    told = run_script(script, "--help", settings=[], folder=ROOT, accelerate=None)
    assert "scripts/demo.sh --help" in told
    assert "set -euo" not in told
    refused = subprocess.run(
        ["bash", script, "--fast"], capture_output=True, text=True, timeout=10, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "it takes no arguments; see scripts/demo.sh --help" in refused.stderr


@pytest.mark.skipif("RELIC_RUN_HPC_E2E" not in os.environ, reason="RELIC_RUN_HPC_E2E is not set")
def test_the_pipeline_runs_under_the_machines_accelerate_config(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    run_script(
        str(ROOT / "scripts" / "v3.sh"), "full_pipeline", "configs/demo.yaml",
        settings=settings_for(demo, tmp_path), folder=ROOT, accelerate=None,
    )  # fmt: skip
    check_artifacts(tmp_path / "runs", "v3")


@pytest.mark.skipif(
    "RELIC_RUN_LOCAL_E2E" not in os.environ, reason="RELIC_RUN_LOCAL_E2E is not set"
)
def test_the_demo_in_full_learns_and_beats_the_baseline(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    story = run_script(
        str(ROOT / "scripts" / "demo.sh"),
        settings=settings_for(demo, tmp_path), folder=ROOT, accelerate=None,
    )  # fmt: skip
    runs = tmp_path / "runs"
    check_story(story, runs)
    aurocs = {}
    for model in ("v3", "pooled"):
        check_artifacts(runs, model)
        (judged,) = (runs / "logs" / model / "evaluate").glob("*/evaluate.csv")
        with judged.open(newline="") as file:
            rows = {row["split"]: row for row in csv.DictReader(file)}
        aurocs[model] = float(rows["test"]["auroc"])
    assert aurocs["v3"] >= max(0.88, aurocs["pooled"] + 0.03)
