"""A network that is killed while its pairs are scored, and what a later command makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from common.inference.checkpoints import DECISION_FILE, checksums_of
from tests.faults import kill_all
from tests.test_own_network import Shared, proteins_of, write_fasta
from tests.tiny_benchmark import ROOT, call_main, environment_of

pytestmark = pytest.mark.launch

# Stripes of a few proteins, and a pause after each.
SETTINGS = ["--set", "evaluate.scoring.tile_residues=200"]
SLOW = """
import runpy, sys, time
from common.inference.score_journal import ScoreJournal
append = ScoreJournal.append
ScoreJournal.append = lambda *given: (append(*given), time.sleep(0.3))
sys.argv[0] = "evaluate.py"
runpy.run_path("evaluate.py", run_name="__main__")
"""


@dataclass(frozen=True)
class Killed:
    """What a killed command left, and the network that an undisturbed one writes."""

    shared: Shared
    fasta: Path
    folder: Path
    whole: bytes

    def resume(self, here: Path, fasta: Path, best: Path) -> bytes:
        """Run a command beside a copy of what was left, and return the network."""
        shutil.copytree(self.folder, here / self.folder.name)
        content = write(self.shared, here / "net.tsv", fasta, best)
        assert sorted(path.name for path in here.glob("*net.tsv*")) == ["net.tsv"]
        return content


def arguments(output: Path, fasta: Path, best: Path) -> list[str]:
    given = ["--checkpoint", best, "--fasta", fasta, "--output", output]
    return [*map(str, given), *SETTINGS]


def write(shared: Shared, output: Path, fasta: Path, best: Path) -> bytes:
    call_main(shared[0], "evaluate.py", *arguments(output, fasta, best), config=False)
    return output.read_bytes()


@pytest.fixture(scope="module")
def killed(pretrained: Shared, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    here = tmp_path_factory.mktemp("killed")
    fasta = write_fasta(here / "own.fasta", proteins_of(pretrained[0], 30, 0))
    whole = write(pretrained, here / "whole.tsv", fasta, pretrained[1])
    folder = here / ".net.tsv.partial"
    command = [sys.executable, "-c", SLOW, *arguments(here / "net.tsv", fasta, pretrained[1])]
    with subprocess.Popen(command, cwd=ROOT, env=environment_of(), text=True) as process:
        while not any(file.stat().st_size > 1000 for file in folder.glob("*.scores")):
            assert process.poll() is None
            time.sleep(0.01)
        kill_all(process)
    assert not (here / "net.tsv").exists()
    return Killed(pretrained, fasta, folder, whole)


def test_it_is_resumed_and_ends_with_the_same_bytes(
    killed: Killed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert killed.resume(tmp_path, killed.fasta, killed.shared[1]) == killed.whole
    told = capsys.readouterr().err
    kept = int(told.split("scoring_resumed | pairs_kept=")[1].split()[0])
    assert 0 < kept < 30 * 29 // 2


def test_other_sequences_are_scored_from_the_beginning(
    killed: Killed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequences = proteins_of(killed.shared[0], 30, 0)
    last = max(sequences)
    other = write_fasta(tmp_path / "other.fasta", sequences | {last: sequences[last][::-1]})
    found = killed.resume(tmp_path, other, killed.shared[1])
    assert "scoring_resumed" not in capsys.readouterr().err
    assert found == write(killed.shared, tmp_path / "fresh.tsv", other, killed.shared[1])
    assert found != killed.whole


def test_another_model_scores_from_the_beginning(
    killed: Killed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(killed.shared[1], other)
    weights = load_file(other / "model.safetensors")
    weights["head.layers.0.bias"] += 0.5
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    decision = json.loads((other / DECISION_FILE).read_text())
    (other / DECISION_FILE).write_text(json.dumps(decision | {"files": checksums_of(other)}))
    found = killed.resume(tmp_path, killed.fasta, other)
    assert "scoring_resumed" not in capsys.readouterr().err
    assert found == write(killed.shared, tmp_path / "fresh.tsv", killed.fasta, other)
    assert found != killed.whole
