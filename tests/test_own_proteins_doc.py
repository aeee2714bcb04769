"""Every command of docs/own_proteins.md runs, and leaves the files that it names."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_benchmark import ROOT, TinyProject, call_main
from tests.tiny_pairs import one_process

DOC = (ROOT / "docs" / "own_proteins.md").read_text()
COMMANDS = re.findall(r"^python evaluate\.py (.*)$", DOC, re.M)
EXAMPLE = ROOT / "examples" / "own_proteins"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the input of the example."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    monkeypatch.chdir(tmp_path / "example")
    return tmp_path / "example"


def test_every_command_runs(pretrained: tuple[TinyProject, Path], here: Path) -> None:
    project, best = pretrained
    sizes = {}
    for command in COMMANDS:
        words = shlex.split(re.sub(r"\$(CHECKPOINT|FAST)", str(best), command))
        call_main(project, "evaluate.py", *words, config=False)
        for option in ("--output", "--plot"):
            if option in words:
                output = here / words[words.index(option) + 1]
                sizes[output.name] = len(output.read_bytes().splitlines())
    assert len(COMMANDS) == 8
    assert sizes["network.tsv"] == 1 + 30 * 29 // 2
    assert sizes["partners.csv"] == 1 + 29
    assert sizes["cross.sif"] <= 30 * 4
    assert sizes["dense.mitab"] == 1 + round(0.01 * 435)
    assert sizes["likely.tsv"] == 1 + round(0.1 * 435)
    assert (here / "best.parquet").exists()
    assert (here / "network.png").exists()


def test_the_command_of_the_tutorial_runs(
    pretrained: tuple[TinyProject, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "examples" / "own_proteins")
    monkeypatch.chdir(tmp_path)
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    (command,) = re.findall(r"^python evaluate\.py (.*--fasta .*)$", tutorial, re.M)
    words = command.replace("$CHECKPOINT", str(pretrained[1])).split()
    call_main(pretrained[0], "evaluate.py", *words, config=False)
    assert len((tmp_path / "network.tsv").read_text().splitlines()) == 1 + 30 * 29 // 2


def test_the_python_runs(pretrained: tuple[TinyProject, Path]) -> None:
    block = re.findall(r"```python\n(.*?)```", DOC, re.S)[0]
    one_process()
    names: dict[str, object] = {"CHECKPOINT": pretrained[1]}
    exec(block, names)
    assert isinstance(names["probabilities"], np.ndarray)
    assert 0 < names["probabilities"][0] < 1
    assert set(names["graph"]) == {"A", "B", "C"}  # type: ignore[call-overload]


def test_the_example_says_what_each_output_begins_with() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    for suffix in ("tsv", "csv", "graphml", "sif", "mitab"):
        assert f"`head.{suffix}`" in readme
    assert "protein_a\tprotein_b\tprobability\tcall\n" in readme
