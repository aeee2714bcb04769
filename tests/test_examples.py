"""The examples: their commands run, on a language model small enough for a test."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT, TinyProject, call_main, run_command
from tests.tiny_esm import save_tiny_esm

EXAMPLE = ROOT / "examples" / "own_data"
OWN_MODEL = ROOT / "examples" / "adding_a_model"


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


@pytest.mark.pipeline
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


def test_a_model_from_one_file_is_trained_and_judged(
    project: TinyProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is imported here; the next test runs it as a program."""
    spec = importlib.util.spec_from_file_location("own_model", OWN_MODEL / "cosine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_model", module)
    spec.loader.exec_module(module)
    settings = ["model_config.model=cosine", "training_config.epochs=1"]
    call_main(project, "pretrain.py", "--set", *settings)
    best = Path(capsys.readouterr().out.strip())
    model = module.CosineModel.from_pretrained(best)
    assert model.project.weight.shape == (16, model.config.input_dim)  # d_model of the project
    call_main(project, "evaluate.py", "--set", *settings, "evaluate.tasks=[pairs]")
    assert "test_without_self_pairs" in capsys.readouterr().out


@pytest.mark.launch
def test_the_file_of_a_model_hands_over_to_the_scripts(tmp_path: Path) -> None:
    """Its first command, on a configuration that is refused once the model's name was accepted."""
    readme = (OWN_MODEL / "README.md").read_text()
    command, *others = re.findall(r"^\$run (.*)$", readme, re.M)
    assert others[0].startswith("evaluate.py --config configs/demo_pooled.yaml --set model_config")
    words = [sys.executable, *re.findall(r'^run="python (.*)"$', readme, re.M), *command.split()]
    done = run_command([*words, "training_config.epochs=0"], ROOT, PYTHONPATH=".")
    assert done.code == 2
    assert "training_config.epochs" in done.stderr
    assert "model_config.model" not in done.stderr
