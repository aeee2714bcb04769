"""Kills stages at random moments, lets them go on, and compares with one that was never stopped.

    python -m tests.faults --stage pretrain --kills 20 --processes 2 --seed 1
    python -m tests.faults --kills 20                 (every stage, on one and on two processes)

Half of the kills come at a random time, half while something is being saved. What is left in the
end must be the same to the last bit: weights, optimizer, random states, CSV rows (times aside),
embeddings, scores.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.rank_program import HARD
from tests.same_run import assert_same_run, assert_same_store
from tests.tiny_benchmark import ROOT, Finished, TinyProject, environment_of, make_project

EPOCHS = 4
PATIENCE = 120.0
TWO_PROCESSES = ROOT / "accelerate_configs" / "cpu_2proc.yaml"


@dataclass(frozen=True)
class Launch:
    """How a stage is launched."""

    processes: int = 1
    workers: int = 0

    def command(self, *arguments: str) -> list[str]:
        """The command that runs an entry script hastily."""
        command = [sys.executable]
        if self.processes > 1:
            command += ["-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)]
        return [*command, str(ROOT / "tests" / "hasty.py"), *arguments]


@dataclass
class Stage(ABC):
    """What is interrupted: how it is started and gone on with, and where it writes."""

    project: TinyProject
    launch: Launch

    @abstractmethod
    def command(self, name: str, again: bool) -> list[str]:
        """Start, or go on with, the work of this name."""

    @abstractmethod
    def folders(self, name: str) -> list[Path]:
        """Where it saves."""

    def is_done(self, name: str) -> bool:
        """Whether the work had reached its end when it was killed, and may not be done again."""
        return False

    @abstractmethod
    def compare(self, name: str, other: str) -> None:
        """Assert that two works left the same."""


@dataclass
class Training(Stage):
    """`pretrain.py` or `finetune.py`: four epochs, mining, unfreezing, dropout, accumulation."""

    name: str = "pretrain"
    checkpoint: Path | None = None
    settings: tuple[str, ...] = ()

    def command(self, name: str, again: bool) -> list[str]:
        """`--resume` also where the run was killed before its first state."""
        start = [] if self.checkpoint is None else ["--checkpoint", str(self.checkpoint)]
        settings = [
            *HARD,
            f"training_config.epochs={EPOCHS}",
            f"training_config.batch_size={8 // self.launch.processes}",
            f"data_config.dataloader.num_workers={self.launch.workers}",
            f"run_config.{self.name}_run_id={name}",
            *self.settings,
        ]
        return self.launch.command(
            f"{self.name}.py", "--config", str(self.project.config), *start,
            *(["--resume"] if again else []), "--set", *settings,
        )  # fmt: skip

    def folders(self, name: str) -> list[Path]:
        """Of the checkpoints and of the log."""
        return [self.project.output / kind / "v3" / self.name / name for kind in ("models", "logs")]

    def compare(self, name: str, other: str) -> None:
        """All that both runs left, but for the log."""
        assert_same_run(self.folders(name)[0], self.folders(other)[0], EPOCHS)


@dataclass
class Embedding(Stage):
    """`evaluate.py` on pairs of one's own, whose proteins no cache holds yet."""

    checkpoint: Path = Path()

    def command(self, name: str, again: bool) -> list[str]:
        """The same command again goes on."""
        folder = self.project.folder
        pairs, fasta = folder / "own_pairs.txt", next((folder / "data").glob("*/*.fasta"))
        names = [line[1:] for line in fasta.read_text().splitlines() if line.startswith(">")]
        pairs.write_text("".join(f"{a} {b}\n" for a, b in itertools.pairwise(names)))
        return self.launch.command(
            "evaluate.py", "--checkpoint", str(self.checkpoint), "--pairs", str(pairs),
            "--fasta", str(fasta), "--output", str(self._output(name)),
            "--set", "data_config.embeddings.tokens_per_batch=100",
            f"data_config.embeddings.cache_dir={folder / name}",
        )  # fmt: skip

    def folders(self, name: str) -> list[Path]:
        """The cache's."""
        return [self.project.folder / name, *(self.project.folder / name).glob("*/")]

    def compare(self, name: str, other: str) -> None:
        """The scores, and every state in the cache."""
        assert self._output(name).read_bytes() == self._output(other).read_bytes()
        assert_same_store(self.project.folder / name, self.project.folder / other)

    def _output(self, name: str) -> Path:
        return self.project.folder / f"{name}.txt"


@dataclass
class Scoring(Stage):
    """`evaluate.py` on all pairs of the test side, a few pairs to a tile."""

    checkpoint: Path = Path()

    def command(self, name: str, again: bool) -> list[str]:
        """The same command again goes on."""
        return self.launch.command(
            "evaluate.py", "--config", str(self.project.config), "--checkpoint",
            str(self.checkpoint), "--tasks", "pairs", "topology", "--set",
            f"run_config.eval_run_id={name}", "evaluate.scoring.tile_residues=200",
        )  # fmt: skip

    def folders(self, name: str) -> list[Path]:
        """Of the scores of finished tiles, and of the log."""
        kept = self.project.output / "models" / "v3" / "evaluate" / "partial_scores"
        return [kept, self._logs(name)]

    def is_done(self, name: str) -> bool:
        """With its configuration written, which comes last, its id is taken."""
        return (self._logs(name) / "config.yaml").exists()

    def compare(self, name: str, other: str) -> None:
        """Predictions and figures; and no partial scores stay behind."""
        ours, theirs = self._logs(name), self._logs(other)
        for file in ("evaluate.csv", "topology.csv"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes()
        files = [logs / "predictions.txt.gz" for logs in (ours, theirs)]
        assert gzip.decompress(files[0].read_bytes()) == gzip.decompress(files[1].read_bytes())
        assert not self.folders(name)[0].exists()

    def _logs(self, name: str) -> Path:
        return self.project.output / "logs" / "v3" / "evaluate" / name


@dataclass
class Workshop:
    """A project in which stages are interrupted, beside those that never were.

    Attributes:
        project: Where they run.
        spans: How many seconds the uninterrupted ones were seen to work, by their names.
    """

    project: TinyProject
    spans: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Workshop:
        """With a fresh tiny project."""
        return cls(make_project(folder))

    def stage(self, name: str, launch: Launch) -> Stage:
        """A stage by its name, with the checkpoint that it needs."""
        if name == "pretrain":
            return self.training(launch)
        pretraining = self.training(Launch(1))
        checkpoint = pretraining.folders(self.whole(pretraining))[0] / "best_model"
        if name == "finetune":
            return Training(self.project, launch, name="finetune", checkpoint=checkpoint)
        if name == "embedding":
            return Embedding(self.project, launch, checkpoint=checkpoint)
        return Scoring(self.project, launch, checkpoint=checkpoint)

    def training(self, launch: Launch) -> Training:
        """A pretraining."""
        return Training(self.project, launch)

    def whole(self, stage: Stage) -> str:
        """The name of a work like this stage's that was never interrupted, done when first asked.

        Workers must change nothing, so those with them are compared to one without.
        """
        kind = stage.name if isinstance(stage, Training) else type(stage).__name__
        name = f"whole-{kind}-{stage.launch.processes}"
        if name not in self.spans:
            plain = replace(stage, launch=Launch(stage.launch.processes))
            killed, self.spans[name] = live(plain, name, False, None)
            assert not killed
        return name


@dataclass
class Report:
    """What was done to a stage, and survived."""

    kills: int = 0
    while_saving: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after the first sign of life, or when it saves for the n-th time."""

    seconds: float
    saving: int | None


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive this, nor do its children."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment_of(), stdout=output, stderr=output, text=True
        )
        try:
            yield process
        finally:
            kill_all(process)
            output.seek(0)
            if process.returncode not in (0, -9):
                raise AssertionError(f"it failed by itself:\n{output.read()[-3000:]}")


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process and everything that it has started."""
    everyone: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        everyone = [*parent.children(recursive=True), parent]
    for one in everyone:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(everyone, timeout=10)


@contextmanager
def started(stage: Stage, name: str, again: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A stage on its way, its output in pipes. It may get SIGUSR1: its launcher ignores it."""
    process = subprocess.Popen(
        stage.command(name, again),
        cwd=stage.project.folder,
        env=environment_of(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        # In a group of its own: the kernel continues a stopped one whose group loses its session.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_all(process)


def ended(process: subprocess.Popen[str]) -> Finished:
    """The process after it has ended by itself."""
    stdout, stderr = process.communicate(timeout=60)
    return Finished(process.returncode, stdout, stderr)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until a condition holds, while the process runs."""
    while not condition():
        assert process.poll() is None, ended(process).stderr
        time.sleep(0.002)


def log_of(stage: Stage, name: str) -> Path:
    return stage.folders(name)[1] / "log.log"


def log_tells(stage: Stage, name: str, text: str) -> Callable[[], bool]:
    log = log_of(stage, name)
    return lambda: log.exists() and text in log.read_text()


def signal_all(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """A signal to a process and all it has started, as SLURM signals a job."""
    parent = psutil.Process(process.pid)
    for one in [parent, *parent.children(recursive=True)]:
        os.kill(one.pid, number)


def process_of_rank(process: subprocess.Popen[str], rank: int) -> int:
    """The id of a launched process by its rank."""
    ranks: dict[str | None, int] = {
        child.environ().get("RANK"): child.pid
        for child in psutil.Process(process.pid).children(recursive=True)
    }
    return ranks[str(rank)]


def snapshot(folders: list[Path]) -> dict[Path, int]:
    """When each file there was written."""
    found: dict[Path, int] = {}
    for folder in folders:
        with suppress(OSError):
            for path in folder.iterdir():
                with suppress(OSError):
                    found[path] = path.stat().st_mtime_ns
    return found


def unfinished(files: dict[Path, int]) -> set[Path]:
    """What is being saved at the time."""
    return {path for path in files if path.suffix in (".tmp", ".old")}


def live(stage: Stage, name: str, again: bool, moment: Moment | None) -> tuple[bool, float]:
    """Start a stage, or go on with it, and kill it at its moment.

    Returns:
        Whether it was killed before its end, and how long it was seen to work.
    """
    command = stage.command(name, again)
    before = snapshot(stage.folders(name))
    with running(command, stage.project.folder) as process:
        began, saves, saving = 0.0, 0, set[Path]()
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            assert time.monotonic() < deadline, f"{name} hangs"
            now = snapshot(stage.folders(name))
            began = began or (time.monotonic() if now != before else 0.0)
            fresh = unfinished(now) - saving
            saving, saves = saving | fresh, saves + len(fresh)
            if moment is not None and began and is_time(moment, began, saves):
                time.sleep(moment.seconds if moment.saving is not None else 0)
                break
            time.sleep(0.001)
        killed = process.poll() is None
        return killed, time.monotonic() - began


def is_time(moment: Moment, began: float, saves: int) -> bool:
    """Whether a moment has come."""
    if moment.saving is not None:
        return saves > moment.saving
    return time.monotonic() - began > moment.seconds


def torment(workshop: Workshop, stage: Stage, kills: int, seed: int) -> Report:
    """Kill a stage so many times, going on after each, and compare all that reach their end."""
    rng = random.Random(seed)
    whole = workshop.whole(stage)
    span = workshop.spans[whole]
    report = Report()
    while report.kills < kills:
        name = f"{whole.replace('whole', 'cut')}-{stage.launch.workers}-{report.rounds}"
        again = False
        while True:
            moment = choose_moment(rng, span) if report.kills < kills else None
            killed, _ = live(stage, name, again, moment)
            if not killed:
                break
            again = True
            report.kills += 1
            report.while_saving += moment is not None and moment.saving is not None
            if stage.is_done(name):
                break
        stage.compare(name, whole)
        report.rounds += 1
    return report


def choose_moment(rng: random.Random, span: float) -> Moment:
    """At any time of a life as long as `span`, or within milliseconds of beginning to save."""
    if rng.random() < 0.5:
        return Moment(rng.uniform(0, span), None)
    return Moment(rng.uniform(0, 0.01), rng.randrange(8))


STAGES = ("pretrain", "finetune", "embedding", "scoring")


def main() -> None:
    """Torment the stages that are asked for and print what they survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES)
    parser.add_argument("--processes", type=int, choices=(1, 2), nargs="+", default=(1, 2))
    parser.add_argument("--workers", type=int, nargs="+", default=(0, 2), help="of training")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=47)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop.open(Path(folder))
        for name, processes, workers in itertools.product(
            asked.stage, asked.processes, asked.workers
        ):
            if workers and name not in ("pretrain", "finetune"):
                continue
            stage = workshop.stage(name, Launch(processes, workers))
            report = torment(workshop, stage, asked.kills, asked.seed)
            sys.stdout.write(
                f"{name}: {processes} process(es), {workers} workers: {report.kills} kills"
                f" ({report.while_saving} aimed at saving), {report.rounds} works finished,"
                " all the same to the last bit\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
