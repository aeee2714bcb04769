"""The audit in a stage: what it leaves, what it warns about, what `strict` refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data.benchmark_audit import audit_benchmark
from common.errors import UserError
from common.run import Run
from tests.tiny_benchmark import TinyProject
from tests.tiny_esm import record_log
from tests.tiny_run import begin_run

SPLITS = "data/tiny/BFS"


def audited(project: TinyProject, folder: Path, audit: str) -> Run:
    """A run over the project's data, after its audit."""
    folder.mkdir()
    begun = begin_run(folder)
    benchmark = {"root_dir": str(project.folder / "data"), "species": "tiny"}
    benchmark["cache_dir"] = str(project.folder / "cache")
    section = {"data_config": {"benchmark": benchmark, "audit": audit}}
    config = type(begun.config).model_validate(section)
    run = Run("pretrain", "one", config, begun.accelerator, begun.log_dir, begun.model_dir)
    audit_benchmark(run)
    return run


def leak(project: TinyProject) -> str:
    """Put a training pair into the test file, turned around; return it as it is shown."""
    train, test = (project.folder / f"{SPLITS}/tiny_{part}_ppi.txt" for part in ("train", "test"))
    a, b, label = train.read_text().split("\n")[-2].split("\t")
    test.write_text(f"{test.read_text()}{b}\t{a}\t{label}\n")
    return " ".join(sorted((a, b)))


def test_what_leaks_is_a_warning_and_refused_by_strict(
    project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaked = leak(project)
    with record_log() as log:
        run = audited(project, tmp_path / "warned", "warn")
    found = json.loads((run.log_dir / "audit.json").read_text())
    assert found["shared"]["train/test"]["pairs"] == {"count": 1, "examples": [leaked]}
    warnings = [line for line in log.lines if line.startswith("audit_warning")]
    assert any("finding=shared_pairs" in line and leaked in line for line in warnings)
    assert "shared pairs" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"audit: strict refuses these splits: .*{leaked}"):
        audited(project, tmp_path / "strict", "strict")


def test_off_or_without_training_pairs_nothing_is_left(
    project: TinyProject, tmp_path: Path
) -> None:
    run = audited(project, tmp_path / "off", "off")
    assert not (run.log_dir / "audit.json").exists()
    (project.folder / f"{SPLITS}/tiny_train_ppi.txt").unlink()
    # Without training pairs there is nothing to compare with.
    run = audited(project, tmp_path / "no_training", "warn")
    assert not (run.log_dir / "audit.json").exists()
