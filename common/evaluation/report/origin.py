"""The report's section on the evaluated model or file, the data, the program and the command."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from common.evaluation.judging import used_pairs
from common.evaluation.report.blocks import Facts, Judged, Section
from common.provenance import commit


@dataclass(frozen=True)
class Origin:
    """The command, date and program version that produced a report.

    Everything else in the report depends only on the evaluated run.

    Attributes:
        command: The command line.
        date: The date and time of the report.
        commit: The commit of the program, followed by `+` if files were changed after the commit.
    """

    command: str
    date: str
    commit: str

    @classmethod
    def now(cls) -> Origin:
        """Return the command, date and commit of the current process."""
        date = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(shlex.join(["python", *sys.argv]), date, commit() or "unknown")


def show_origin(judged: Judged, origin: Origin) -> Section:
    """Return the section on the evaluated model or file, the data and the command."""
    return Section("What was evaluated", [Facts([*_describe(judged), *_describe_origin(origin)])])


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
        # `--compare` reads the digests from the log; they mean nothing to a reader.
        if name != "strategy" and not name.endswith("_digest"):
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
