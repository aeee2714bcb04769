"""The task contract: a task that only this file knows is judged, written and printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.charts import Chart, Plot, Series
from common.csv_log import Table
from common.errors import UserError
from common.evaluation.pair_sets import PairSet
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import Task, TaskResult
from common.registry import TASKS
from tests.tiny_benchmark import SPECIES, TinyProject, call_main


class Toy(Task):
    """How many of the pairs of three proteins are predicted."""

    name = "toy"
    files = ("toy.txt",)

    def asks(self) -> list[PairSet]:
        proteins = tuple(self.path("toy.txt").read_text().split())
        return [PairSet("the toy", proteins, np.array([[0, 1], [2, 1]]))]

    def describe(self) -> dict[str, object]:
        return {"toy_pairs": 2}

    def judge(self, predictions: Predictions, threshold: float) -> TaskResult:
        (pairs,) = self.asks()
        scores = predictions.scores_of(pairs.proteins, pairs.rows())
        found = [{"place": i, "score": float(score)} for i, score in enumerate(scores)]
        line = Series("", np.arange(2.0), scores)
        return TaskResult(
            metrics={"found": int((scores >= threshold).sum()), "rule": "as a toy"},
            tables={"toy.csv": Table(("place", "score", "remark"), found)},
            charts={"toy.png": Chart("toys", [Plot("Toys", "place", "score", [line])])},
            notes=["a note of the toy"],
        )


@pytest.fixture
def toy(project: TinyProject) -> Iterator[TinyProject]:
    """A project with the data of a task that is registered here."""
    (project.folder / "functional" / "toy.txt").write_text("P041 P050 P045")
    TASKS.add("toy", Toy)
    yield project
    TASKS._entries.pop("toy")


def judge(project: TinyProject, text: str, *tasks: str) -> Path:
    """The folder that judging a file of this text leaves."""
    (project.folder / "mine.txt").write_text(text)
    call_main(project, "evaluate.py", "--predictions", str(project.folder / "mine.txt"),
              "--tasks", *tasks, "--set", "run_config.eval_run_id=toy")  # fmt: skip
    return project.output / "logs" / "v3" / "evaluate" / "toy"


def test_a_task_of_one_file_is_judged_written_and_printed(
    toy: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = judge(toy, "P050 P041 0.75\nP043 P042 0.9\nP050 P045 0.25\n", "toy", "complexes")
    assert (logs / "toy.csv").read_text() == "place,score,remark\n0,0.75,\n1,0.25,\n"
    assert (logs / "toy.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((logs / "functional.json").read_text())
    assert list(metrics) == ["complexes", "toy"]  # in the order of the registry
    assert metrics["toy"] == {"found": 1, "rule": "as a toy"}
    heading, *table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert heading.endswith(f" on {SPECIES} BFS, test data of pring")
    assert table == ["task  found", "toy       1"]
    log = (logs / "log.log").read_text()
    assert f"{SPECIES}=not used | complexes=4 | toy_pairs=2\n" in log
    notes = [line.split("note=")[1] for line in log.splitlines() if "prediction_note" in line]
    assert notes == [
        # P042 and P043 are within a complex.
        "17 of 18 pairs of the complexes have no score and count as not predicted",
        "a note of the toy",
    ]
    written = [line.split("path=")[1] for line in log.splitlines() if "csv_written" in line]
    assert [Path(path).name for path in written] == ["toy.csv"]
    assert "| also_written=functional.json" in log.splitlines()[-1]


def test_pairs_that_only_the_toy_asks_for_are_used(toy: TinyProject) -> None:
    logs = judge(toy, "P050 P041 0.75\nP041 P045 0.9\n", "toy")
    log = (logs / "log.log").read_text()
    assert "note=1 listed pair is not used by any requested task (such as P041 P045)" in log
    assert "note=1 of 2 pairs of the toy have no score and count as not predicted" in log


def test_a_file_that_the_toy_needs_is_asked_for_by_its_name(toy: TinyProject) -> None:
    (toy.folder / "functional" / "toy.txt").unlink()
    with pytest.raises(UserError, match=r"has no toy\.txt, but the task toy needs"):
        judge(toy, "P050 P041 0.75\n", "toy")
