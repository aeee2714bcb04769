"""How a script ends: its exit code, and which rank says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT, run_command

ENDING = """
import os, sys
sys.path.insert(0, {root!r})
from common.command_line import run_script
from common.errors import UserError
from common.pausing import PAUSE

def main():
    {ending}

run_script(main)
"""
CASES = {
    # What all ranks find alike is told once; what one met by itself, by that one.
    "a mistake in the config": ("raise UserError('no such key')", 2, False, "error: no such key"),
    "a full disk": ("raise UserError('disk full', own=True)", 2, True, "error: disk full"),
    # An unreadable checkpoint ended in a traceback, as a defect.
    "a closed folder": (
        "raise PermissionError(13, 'Permission denied', 'shut/model')",
        2,
        True,
        "error: shut/model: permission denied; allow access",
    ),
    "a defect": ("[][0]", 1, True, "failed: IndexError on rank {rank}, a defect"),
    "Ctrl-C": ("os.kill(os.getpid(), 2)", 75, True, "paused on SIGINT; run the same command again"),
    # While the first is remembered, the state not yet saved.
    "Ctrl-C twice": (
        "with PAUSE.until_asked(): [os.kill(os.getpid(), 2) for _ in range(2)]",
        130,
        False,
        "",
    ),
    "Ctrl-C once": ("with PAUSE.until_asked(): os.kill(os.getpid(), 2)", 0, False, ""),
    "SIGTERM, then Ctrl-C once": (
        "with PAUSE.until_asked(): [os.kill(os.getpid(), n) for n in (15, 2)]",
        0,
        False,
        "",
    ),
    # torchrun passes the second one on as SIGTERM.
    "Ctrl-C twice under torchrun": (
        "os.environ['TORCHELASTIC_RUN_ID'] = 'none'\n"
        "    with PAUSE.until_asked(): [os.kill(os.getpid(), n) for n in (2, 15)]",
        130,
        False,
        "",
    ),
    # As clusters do; what the first one has set off is not disturbed.
    "SIGTERM twice": (
        "with PAUSE.until_asked(): [os.kill(os.getpid(), 15) for _ in range(2)]",
        0,
        False,
        "",
    ),
    "the end": ("pass", 0, False, ""),
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_a_script_ends_with_its_code_and_one_sentence(case: str, rank: int, tmp_path: Path) -> None:
    ending, code, everywhere, sentence = CASES[case]
    script = tmp_path / "script.py"
    script.write_text(ENDING.format(root=str(ROOT), ending=ending))
    finished = run_command([sys.executable, str(script)], tmp_path, RANK=str(rank))
    assert finished.code == code
    said = [line for line in finished.stderr.splitlines() if line.startswith("script.py: ")]
    if sentence and (rank == 0 or everywhere):
        assert len(said) == 1
        assert said[0].startswith("script.py: " + sentence.format(rank=rank))
    else:
        assert not said


def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path: Path) -> None:
    """A page of usage came before it."""
    for script in ("pretrain.py", "finetune.py", "evaluate.py"):
        finished = run_command([sys.executable, str(ROOT / script), "--confg", "x"], tmp_path)
        assert finished.code == 2
        assert finished.stderr.count("\n") == 1
        assert finished.stderr.endswith(f"; see {script} --help\n")
        other = run_command(
            [sys.executable, str(ROOT / script), "--confg", "x"], tmp_path, RANK="1"
        )
        assert (other.code, other.stderr) == (2, "")


def test_an_empty_option_is_refused_and_not_left_out(tmp_path: Path) -> None:
    """`--predictions "$FILE"`, with FILE unset, judged the newest model instead."""
    for option in ("--predictions", "--pairs", "--fasta", "--output", "--checkpoint"):
        command = [sys.executable, str(ROOT / "evaluate.py"), "--config", "c.yaml", option, ""]
        finished = run_command(command, tmp_path)
        assert finished.code == 2
        assert f"argument {option}: it is empty; name a path" in finished.stderr
