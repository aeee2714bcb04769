"""Trackers: off by default, refused where they are not installed, and TensorBoard read back."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from common.config import Config, RunConfig, TrackerName
from common.csv_log import EpochRow
from common.errors import UserError
from common.run import Run
from common.training.trackers import check_trackers, start_trackers, track_epoch
from tests.tiny_benchmark import TinyProject, call_main

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def tracked_by(*names: TrackerName, folder: str = "runs") -> Config:
    return Config(run_config=RunConfig(trackers=names, output_dir=folder))


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By name, what TensorBoard shows: the step and the value of each point."""
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_the_known_trackers_are_those_of_accelerate() -> None:
    assert sorted(get_args(TrackerName)) == sorted(LOGGER_TYPE_TO_CLASS)
    assert RunConfig().trackers == ()


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it only left out, there would be no curves a week later."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("aim", "wandb") else real(name)
    )
    check_trackers(tracked_by("tensorboard"))
    message = r"trackers names wandb and aim, which cannot be imported; run `pip install wandb aim`"
    with pytest.raises(UserError, match=message):
        check_trackers(tracked_by("wandb", "tensorboard", "aim"))


def test_tensorboard_shows_the_rows_of_the_csv_file(project: TinyProject) -> None:
    """Also after a resume with more epochs to come, which may name trackers for the first time."""
    named = ["--set", "run_config.pretrain_run_id=mine", "run_config.trackers=[tensorboard]"]
    call_main(project, "pretrain.py", *named)
    logs = project.output / "logs" / "v3" / "pretrain" / "mine"
    with (logs / "training_step.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = read_scalars(logs / "relic")
    assert list(shown) == list(rows[0])
    for name, points in shown.items():
        assert [step for step, _ in points] == [1, 2]
        assert [value for _, value in points] == pytest.approx([float(row[name]) for row in rows])


class Recorder:
    """An accelerator's part in tracking."""

    def __init__(self, error: Exception | None = None) -> None:
        self.is_main_process, self.num_processes = True, 1
        self.project_configuration = SimpleNamespace(logging_dir=None)
        self.error = error
        self.started: list[Any] = []
        self.logged: list[Any] = []

    def init_trackers(self, project: str, init_kwargs: Any) -> None:
        if self.error:
            raise self.error
        self.started.append((project, init_kwargs))

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))


def run_with(config: Config, recorder: Recorder, folder: Path) -> Run:
    return Run("pretrain", "mine", config, recorder, folder, folder)


def test_without_trackers_nothing_is_started_or_sent(tmp_path: Path) -> None:
    recorder = Recorder(ZeroDivisionError())
    run = run_with(tracked_by(), recorder, tmp_path)
    start_trackers(run, 1)
    track_epoch(run, EpochRow(1, 2.0, 0.7, 0.6, {"auroc": 0.5, "auprc": 0.4}, 1e-4))
    assert recorder.logged == []


def test_a_resumed_run_continues_its_trackers(tmp_path: Path) -> None:
    recorder = Recorder()
    run = run_with(tracked_by("wandb", "tensorboard"), recorder, tmp_path)
    start_trackers(run, 4)
    ((project, settings),) = recorder.started
    assert project == "relic"
    assert settings["tensorboard"] == {"purge_step": 4}
    assert settings["wandb"]["id"] == "v3-pretrain-mine"
    assert settings["wandb"]["config"]["run_config"]["trackers"] == ["wandb", "tensorboard"]
    track_epoch(run, EpochRow(4, 2.0, 0.7, 0.6, {"auroc": None, "auprc": 0.4}, 1e-4))
    cells = {"Epoch": 4, "Epoch Time": 2.0, "Train Loss": 0.7, "Val Loss": 0.6, "Val auprc": 0.4,
             "Learning Rate": 1e-4}  # fmt: skip
    assert recorder.logged == [(cells, 4)]


def test_a_tracker_that_cannot_start_is_explained_in_one_sentence(tmp_path: Path) -> None:
    recorder = Recorder(RuntimeError("no API key\n  run wandb login"))
    run = run_with(tracked_by("wandb"), recorder, tmp_path)
    message = r"^run_config.trackers: wandb cannot start: no API key run wandb login; correct the"
    with pytest.raises(UserError, match=message):
        start_trackers(run, 1)
