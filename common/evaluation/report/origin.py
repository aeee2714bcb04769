"""What was judged: the model or file, the data, and the program and command that judged it."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.evaluation.judging import used_pairs
from common.evaluation.report.blocks import Facts, Judged, Section

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Origin:
    """Where a report comes from; everything else on its page follows from the judged run.

    Attributes:
        command: The command line.
        date: When it was made.
        commit: The commit of the program, if it runs from a Git checkout.
    """

    command: str
    date: str
    commit: str

    @classmethod
    def now(cls) -> Origin:
        """The origin of a report that this process makes now."""
        date = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(shlex.join(["python", *sys.argv]), date, find_commit(ROOT))


def find_commit(checkout: Path) -> str:
    """Return the commit of a Git checkout, and whether files differ from it."""
    if not (checkout / ".git").exists():
        return "unknown: the program does not run from a Git checkout"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = _ask_git(checkout, "rev-parse", "HEAD")
        changed = _ask_git(checkout, "status", "--porcelain", "--untracked-files=no")
        return f"{commit} with uncommitted changes" if changed else commit
    return "unknown: Git does not answer"


def _ask_git(checkout: Path, *question: str) -> str:
    command = ["git", "-C", str(checkout), *question]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return asked.stdout.strip()


def show_origin(judged: Judged, origin: Origin) -> Section:
    """The section on what was judged."""
    return Section("What was judged", [Facts([*_describe(judged), *_describe_origin(origin)])])


def _describe(judged: Judged) -> Iterator[tuple[str, str]]:
    scored, data = judged.scored, judged.run.config.data
    benchmark = judged.side.sets[0].benchmark
    if scored.name == "model":
        yield "Model", f"{scored.title}, from {scored.source}"
        yield "Language model", data.embeddings.model_name
    else:
        yield "Predictions", str(scored.source)
    yield "Benchmark", f"{benchmark.name}, {data.benchmark.root_dir}"
    yield "Species and split", f"{benchmark.species} {benchmark.strategy}"
    for name, value in judged.side.describe().items():
        if name != "strategy":
            yield f"Data: {name.replace('_', ' ')}", str(value)
    used, needed = (
        int(used_pairs(judged.side, scored.predictions).sum()),
        len(judged.side.needed_pairs()),
    )
    yield "Coverage", f"{used:,} of {needed:,} pairs have a score ({used / max(needed, 1):.1%})"
    yield "Tasks", ", ".join(judged.side.tasks)
    yield "Run", str(judged.run.log_dir)


def _describe_origin(origin: Origin) -> Iterator[tuple[str, str]]:
    yield "Commit", origin.commit
    yield "Command", origin.command
    yield "Date", origin.date
