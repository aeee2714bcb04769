"""The audit in a stage: what it leaves, what it warns about, what `strict` refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from common.data.benchmark_audit import audit_benchmark
from common.data.pair_hashes import TrainedOn
from common.data.tables.pairs import read_pairs
from common.errors import UserError
from common.run import Run
from tests.tiny_benchmark import TinyProject
from tests.tiny_esm import record_log
from tests.tiny_run import begin_run

SPLITS = "data/tiny/BFS"


def audited(
    project: TinyProject, folder: Path, audit: str, trained_on: TrainedOn | None = None
) -> Run:
    """A run over the project's data, after its audit."""
    folder.mkdir()
    begun = begin_run(folder)
    benchmark = {"root_dir": str(project.folder / "data"), "species": "tiny"}
    benchmark["cache_dir"] = str(project.folder / "cache")
    others = [path.name for path in (project.folder / "data").glob("other")]
    data = {"benchmark": benchmark, "audit": audit}
    config = type(begun.config).model_validate(
        {"data_config": data, "evaluate": {"cross_species": tuple(others)}}
    )
    run = Run("pretrain", "one", config, begun.accelerator, begun.log_dir, begun.model_dir)
    audit_benchmark(run, trained_on=trained_on)
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


def turn_around(path: Path, keep: int) -> TrainedOn:
    """The hashes of the first pairs of a file, turned around, and of one that it lacks."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    text = "".join(f"{b}\t{a}\t{label}\n" for a, b, label in lines[:keep])
    file = path.with_name("turned.txt")
    file.write_text(f"{text}P001\tQ001\t1\n")
    hashes = TrainedOn.of(read_pairs(file, path.parent))
    file.unlink()
    return hashes


def test_test_pairs_that_the_checkpoint_was_trained_on_are_counted(
    project: TinyProject, tmp_path: Path
) -> None:
    """In either order; also of other species, and where there is no file of training pairs."""
    species = project.folder / "data/tiny"
    shutil.copytree(species, project.folder / "data/other")
    for path in (project.folder / "data/other").rglob("tiny_*"):
        path.rename(path.with_name(path.name.replace("tiny", "other")))
    other = project.folder / "data/other/BFS/other_test_ppi.txt"
    other.write_text("".join(other.read_text().splitlines(keepends=True)[:3]))
    (species / "BFS/tiny_train_ppi.txt").unlink()
    trained_on = turn_around(species / "BFS/tiny_test_ppi.txt", 7)
    with record_log() as log:
        run = audited(project, tmp_path / "warned", "warn", trained_on)
    found = json.loads((run.log_dir / "audit.json").read_text())["trained_on"]
    assert {name: count["count"] for name, count in found.items()} == {"tiny": 7, "other": 3}
    assert len(found["tiny"]["examples"]) == 5
    sentence = "7 tiny test pairs are among the training pairs of the checkpoint (P0"
    assert any("finding=trained_on" in line and sentence in line for line in log.lines)
    with pytest.raises(UserError, match=r"strict refuses .*: 7 tiny test pairs .*; 3 other test"):
        audited(project, tmp_path / "strict", "strict", trained_on)
    run = audited(project, tmp_path / "clean", "strict", TrainedOn(trained_on.pairs[:0]))
    found = json.loads((run.log_dir / "audit.json").read_text())["trained_on"]
    assert [count["count"] for count in found.values()] == [0, 0]
