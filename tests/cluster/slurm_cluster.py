"""A SLURM cluster on this machine, as `slurm.sh` makes it, and the jobs that run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tiny_benchmark import ROOT, environment_of

SLURM_SH = Path(__file__).with_name("slurm.sh")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
PATIENCE = float(os.environ.get("RELIC_SLURM_PATIENCE", "900"))


def why_not() -> str | None:
    """Why there can be no cluster here."""
    missing = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not found: install the packages slurm-wlm and munge"
    return None if os.geteuid() == 0 else "hosts are made of namespaces, which takes root"


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Attributes:
        folder: Its state and logs, and the output of its jobs.
    """

    folder: Path

    def on(self, *command: str, **environment: str) -> str:
        """Run a command on the head node, in the checkout; returns its stdout."""
        done = subprocess.run(
            ["bash", str(SLURM_SH), "on", str(self.folder), *command],
            cwd=ROOT,
            env=environment_of(VIRTUAL_ENV=sys.prefix, PATH=_path(), **environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def options(self, nodes: int) -> list[str]:
        """Options of sbatch for small jobs."""
        output = f"--output={self.folder}/%x-%j.out"
        return [f"--nodes={nodes}", "--cpus-per-task=1", "--mem=400", output]

    def submit(self, *arguments: str, nodes: int, **environment: str) -> Job:
        """Submit a batch script."""
        number = self.on("sbatch", "--parsable", *self.options(nodes), *arguments, **environment)
        return Job(self, number)


@dataclass(frozen=True)
class Job:
    """A submitted job."""

    slurm: Slurm
    number: str

    def facts(self) -> dict[str, str]:
        """What SLURM knows about it, such as JobState and Restarts."""
        line = self.slurm.on("scontrol", "--oneliner", "show", "job", self.number).splitlines()[0]
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def wait_until(self, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Wait until its facts satisfy a condition."""
        deadline = time.monotonic() + PATIENCE
        while not condition(facts := self.facts()):
            assert facts["JobState"] not in ENDED, f"{facts}\n{self.output()}"
            assert time.monotonic() < deadline, f"{facts}\n{self.output()}"
            time.sleep(0.5)
        return facts

    def end(self) -> str:
        """Wait for its end; returns its state."""
        return self.wait_until(lambda facts: facts["JobState"] in ENDED)["JobState"]

    def output(self) -> str:
        """What it has written so far."""
        files = self.slurm.folder.glob(f"*-{self.number}.out")
        return "".join(path.read_text() for path in files)


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


@contextmanager
def running_cluster(folder: Path, nodes: int = 4) -> Iterator[Slurm]:
    """A cluster that ends with the block."""
    try:
        subprocess.run(["bash", str(SLURM_SH), "start", str(folder), str(nodes)], check=True)
        yield Slurm(folder)
    finally:
        subprocess.run(["bash", str(SLURM_SH), "stop", str(folder)], check=True)
