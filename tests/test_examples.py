"""The examples: their commands run, on a language model small enough for a test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT, TinyProject, call_main
from tests.tiny_esm import save_tiny_esm

EXAMPLE = ROOT / "examples" / "own_data"


@pytest.fixture
def own_data(tmp_path: Path) -> TinyProject:
    """The shipped configuration, in a folder of its own."""
    save_tiny_esm(tmp_path / "esm")
    (tmp_path / "config.yaml").write_text((ROOT / "configs" / "own_data.yaml").read_text())
    return TinyProject(tmp_path, tmp_path / "config.yaml")


def settings(project: TinyProject, file: str, root: str) -> list[str]:
    return [
        f"data_config.interactions.files=[{EXAMPLE / file}]",
        f"data_config.interactions.sequences={EXAMPLE / 'proteins.fasta'}",
        f"data_config.benchmark.root_dir={project.folder / root}",
        f"data_config.benchmark.cache_dir={project.folder / 'cache'}",
        f"data_config.embeddings.model_name={project.folder / 'esm'}",
        f"data_config.embeddings.cache_dir={project.folder / 'embeddings'}",
        f"run_config.output_dir={project.folder / 'runs'}",
        "training_config.epochs=1",
    ]


def prepared(folder: Path) -> dict[str, str]:
    """The hashes of the prepared files that do not name their input."""
    files = sorted(path for path in (folder / "own").rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_own_data_from_a_string_file_to_a_judged_model(
    own_data: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(own_data, "string.protein.links.txt", "string")
    call_main(own_data, "pretrain.py", "--set", *given)
    call_main(own_data, "evaluate.py", "--set", *given)
    assert "test_without_self_pairs" in capsys.readouterr().out
    call_main(own_data, "pretrain.py", "--set",
              *settings(own_data, "interactions.mitab.txt", "mitab"))  # fmt: skip
    assert prepared(own_data.folder / "string") == prepared(own_data.folder / "mitab")
