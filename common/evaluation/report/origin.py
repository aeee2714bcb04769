"""What was judged: the model or file, the data, and the program and command that judged it."""

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
    """How a report was made; everything else on its page follows from the judged run.

    Attributes:
        command: The command line.
        date: When the report was made.
        commit: The commit of the program; `+` if files have changed since.
    """

    command: str
    date: str
    commit: str

    @classmethod
    def now(cls) -> Origin:
        """Return the origin of a report that this process makes now."""
        date = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(shlex.join(["python", *sys.argv]), date, commit() or "unknown")


def show_origin(judged: Judged, origin: Origin) -> Section:
    """Return the section on what was judged."""
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
