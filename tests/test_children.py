"""Programs that are run for a while: their result, and their end with the process that ran them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from common.children import run_child
from tests.tiny_benchmark import ROOT


def test_a_program_gives_its_code_and_what_it_printed() -> None:
    done = run_child(["sh", "-c", 'cat; echo "$1"; echo why >&2; exit 3', "sh", "a 'b' $c"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "a 'b' $c\n", "why\n")


def lives(process: int) -> bool:
    """Whether a process runs; a dead one may wait for its parent to notice."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_killed_process_takes_along_what_its_program_has_started(tmp_path: Path) -> None:
    """MMseqs2 went on for minutes."""
    file = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 60 & echo $! > {file}.part; mv {file}.part {file}; wait"]
    program = f"from common.children import run_child; run_child({command!r})"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as process:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        sleeping = int(file.read_text())
        assert lives(sleeping)
        process.kill()
    deadline = time.monotonic() + 60
    while lives(sleeping):
        assert time.monotonic() < deadline
        time.sleep(0.01)
