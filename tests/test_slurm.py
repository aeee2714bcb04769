"""`scripts/slurm/v3.sbatch` with SLURM's own commands played by small scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT

BATCH = ROOT / "scripts" / "slurm" / "v3.sbatch"

# Runs the node's command in the background, as slurmstepd does, and passes signals to it alone.
SRUN = """#!/bin/bash
echo "srun $1" >> "$PLAYED"
shift
SLURM_NODEID=0 "$@" &
echo $! > "$PLAYED.pid"
wait $!
"""
SCONTROL = """#!/bin/bash
if [[ "$1" == show ]]; then echo node1; else echo "scontrol $*" >> "$PLAYED"; fi
"""
# The launcher: a process that ignores what SLURM sends, with one child that does not.
ACCELERATE = """#!/bin/bash
echo "accelerate $*" >> "$PLAYED"
{python} -c "$CHILD" &
trap '' USR1 TERM
wait $! || exit 1
"""
WAITS = """
import signal, sys
def hear(*_):
    sys.stderr.write("pretrain.py: paused in epoch 1; resume it with --resume\\n"); sys.exit(75)
signal.signal(signal.SIGUSR1, hear)
print("begun", flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Job:
    """A submitted job, and what its scripts have noted."""

    process: subprocess.Popen[str]
    played: Path

    def notes(self) -> str:
        return self.played.read_text()


def submit(folder: Path, child: str, **environment: str) -> Job:
    """Run the batch script as SLURM would, on one node with two GPUs."""
    commands = folder / "bin"
    commands.mkdir()
    contents = {
        "srun": SRUN, "scontrol": SCONTROL, "accelerate": ACCELERATE.format(python=sys.executable)
    }  # fmt: skip
    for name, content in contents.items():
        (commands / name).write_text(content)
        (commands / name).chmod(0o755)
    slurm = {
        "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_NODELIST": "node1", "SLURM_CPUS_PER_TASK": "4", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return Job(
        subprocess.Popen(
            ["bash", str(BATCH), "pretrain.py", "configs/v3.yaml", "one"],
            env={**os.environ, **slurm, "PATH": path, "VIRTUAL_ENV": sys.prefix, "CHILD": child,
                 "PLAYED": str(folder / "played"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ),
        folder / "played",
    )  # fmt: skip


def test_a_job_that_is_paused_is_queued_again(tmp_path: Path) -> None:
    """The signal reaches the training process although SLURM gives it to the node's shell alone."""
    job = submit(tmp_path, WAITS)
    assert job.process.stdout is not None
    while job.process.stdout.readline() != "begun\n":
        assert job.process.poll() is None
    os.kill(int((tmp_path / "played.pid").read_text()), signal.SIGUSR1)
    assert job.process.wait(timeout=20) == 75
    launch = "--num_processes 2 --num_machines 1 --multi_gpu --main_process_ip node1"
    assert launch in job.notes()
    assert "--resume --set run_config.pretrain_run_id=one" in job.notes()
    assert "srun --kill-on-bad-exit=1" in job.notes()
    assert job.notes().endswith("scontrol requeue 7\n")


@pytest.mark.parametrize(
    ("says", "code", "requeued"),
    [
        ("pretrain.py: error: a bad line", 1, False),
        # A rank that was told to end because another one failed.
        ("pretrain.py: paused on SIGTERM\npretrain.py: failed: KeyError on rank 1", 1, False),
        ("Traceback (most recent call last):", 1, False),
        ("pretrain.py: paused on SIGTERM", 75, True),
    ],
)
def test_only_a_pause_is_queued_again(tmp_path: Path, says: str, code: int, requeued: bool) -> None:
    job = submit(tmp_path, f"import sys; print({says!r}); sys.exit(1)")
    assert job.process.wait(timeout=20) == code
    assert ("scontrol requeue" in job.notes()) == requeued


def test_a_job_that_is_done_is_done(tmp_path: Path) -> None:
    job = submit(tmp_path, "print('runs/best_model')")
    stdout, _ = job.process.communicate(timeout=20)
    assert (job.process.returncode, stdout.splitlines()[-1]) == (0, "runs/best_model")


def test_a_job_is_not_queued_forever(tmp_path: Path) -> None:
    child = "import sys; print('pretrain.py: paused'); sys.exit(75)"
    job = submit(tmp_path, child, SLURM_RESTART_COUNT="3", MAX_RESTARTS="3")
    assert job.process.wait(timeout=20) == 75
    assert "requeue" not in job.notes()
