"""Runs: the launch check, run ids, the log's format, and failures in it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate import Accelerator
from accelerate.utils import DistributedType

from common import launch as launch_module
from common import run as run_module
from common.config import Config, RunConfig
from common.errors import UserError
from common.launch import start_accelerator
from common.pausing import Paused
from common.ranks import OneProcess, check_shared
from common.run import LOGGER, Run, format_event, open_run


def config_in(folder: Path, run_id: str | None = "mine") -> Config:
    return Config(run_config=RunConfig(output_dir=str(folder), pretrain_run_id=run_id))


def test_a_launch_in_which_a_process_is_alone_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two launched CPU processes each believed to be the main one and overwrote each other."""
    alone = SimpleNamespace(num_processes=1, distributed_type=DistributedType.NO)
    monkeypatch.setattr(launch_module, "Accelerator", lambda **_: alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="started 2 processes but only 1 take part"):
        start_accelerator(config_in(tmp_path))


def test_an_event_is_one_line_whatever_its_values() -> None:
    line = format_event("step", loss=0.1234567, names=("a", "b"), reason="two\nlines", n=3)
    assert line == "step | loss=0.123457 | names=a,b | reason=two lines | n=3"


def divide_after_an_event() -> None:
    LOGGER.info("stage_start | epochs=7")
    _ = 1 / 0


def test_a_run_logs_to_its_file_and_a_failure_names_its_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The script prints the reason itself: on the console, it once appeared twice."""
    with (
        pytest.raises(ZeroDivisionError),
        open_run("pretrain", config_in(tmp_path), Accelerator(cpu=True)),
    ):
        divide_after_an_event()
    log_dir = tmp_path / "logs" / "v3" / "pretrain" / "mine"
    lines = (log_dir / "log.log").read_text().splitlines()
    assert [line.split(" | ")[0].split()[-1] for line in lines] == [
        "pipeline_bootstrap",
        "device_resolved",
        "stage_start",
        "stage_failed",
    ]
    assert lines[-1].endswith("rank=0 | reason=ZeroDivisionError: division by zero")
    assert capfd.readouterr().err.splitlines() == lines[:-1]
    assert not any(isinstance(handler, logging.FileHandler) for handler in LOGGER.handlers)


def test_a_launch_that_shards_models_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Mining and validation call the whole model on each process: it would hang."""
    sharded = SimpleNamespace(num_processes=1, distributed_type=DistributedType.FSDP)
    monkeypatch.setattr(launch_module, "Accelerator", lambda **_: sharded)
    with pytest.raises(UserError, match=r"distributed_type FSDP splits the model.*accelerate_conf"):
        launch_module.start_accelerator(config_in(tmp_path))


def test_a_begun_run_id_is_taken_unless_resuming(tmp_path: Path) -> None:
    config, accelerator = config_in(tmp_path), Accelerator(cpu=True)
    for _ in range(2):  # not begun: may be repeated
        with open_run("pretrain", config, accelerator):
            pass
    with open_run("pretrain", config, accelerator) as run:
        run.begin()
    with (
        pytest.raises(
            UserError, match=r"mine exists already \(.*config.yaml\); choose another run_config"
        ),
        open_run("pretrain", config, accelerator),
    ):
        pass
    with open_run("pretrain", config, accelerator, resume=True) as again:
        assert again.run_id == "mine"


def test_models_of_a_run_whose_log_is_gone_are_not_taken_over(tmp_path: Path) -> None:
    """Begun again under its id and resumed, it went on from the state of the older one."""
    config = config_in(tmp_path)
    (tmp_path / "models" / "v3" / "pretrain" / "mine" / "last_state").mkdir(parents=True)
    with (
        pytest.raises(UserError, match=r"mine exists already \(.*models/v3/pretrain/mine\)"),
        open_run("pretrain", config, Accelerator(cpu=True)),
    ):
        pass
    assert not (tmp_path / "logs" / "v3" / "pretrain" / "mine").exists()


def test_without_an_id_the_newest_begun_run_is_resumed(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    for run_id in ("older", "newer"):
        with open_run("pretrain", config_in(tmp_path, run_id), accelerator) as run:
            run.begin()
    with open_run("pretrain", config_in(tmp_path, None), accelerator, resume=True) as run:
        assert run.run_id == "newer"


def test_two_runs_within_one_second_get_ids_of_their_own(tmp_path: Path) -> None:
    ids = set()
    for _ in range(3):
        with open_run("pretrain", config_in(tmp_path, None), Accelerator(cpu=True)) as run:
            ids.add(run.run_id)
    assert len(ids) == 3


def fail_after(config: Config, *events: str, error: BaseException | None = None) -> None:
    """Start a run, log these events and fail."""
    with open_run("pretrain", config, Accelerator(cpu=True)) as run:
        (run.log_dir / "audit.json").touch()
        for event in events:
            LOGGER.info(event)
        raise error or UserError("a bad line")


@pytest.mark.parametrize("error", [UserError("bad"), Paused("on SIGTERM"), OSError("defect")])
def test_a_start_that_fails_before_any_work_leaves_no_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """Half of the run folders of a user were stubs of such starts."""
    with pytest.raises(type(error)):
        fail_after(config_in(tmp_path, None), "data_ready | train=7", error=error)
    assert list((tmp_path / "logs" / "v3" / "pretrain").iterdir()) == []
    console = capfd.readouterr().err
    assert "data_ready | train=7" in console
    # The audit's file may have been named before.
    assert console.splitlines()[-1].startswith("No work had begun: the files of this start in ")


@pytest.mark.parametrize("event", ["stage_start | epochs=7", "progress | work=embedding | done=1"])
def test_a_failure_after_work_began_keeps_its_log(tmp_path: Path, event: str) -> None:
    """Also if the same id fails again at once, say because of a mistyped path."""
    log = tmp_path / "logs" / "v3" / "pretrain" / "mine" / "log.log"
    for events in ((event,), ()):
        with pytest.raises(UserError):
            fail_after(config_in(tmp_path), *events)
        assert event in log.read_text()


def test_a_failed_resume_keeps_the_run(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    with open_run("pretrain", config_in(tmp_path), accelerator) as run:
        run.begin()
    with (
        pytest.raises(UserError),
        open_run("pretrain", config_in(tmp_path), accelerator, resume=True),
    ):
        raise UserError("another seed")
    assert {path.name for path in run.log_dir.iterdir()} == {"config.yaml", "log.log"}


def test_a_failed_start_leaves_alone_what_else_is_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "v3" / "pretrain" / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    with pytest.raises(UserError):
        fail_after(config_in(tmp_path))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("own", "kept"), [(Paused("on SIGTERM"), True), (UserError("bad"), False)])
def test_a_log_with_what_only_another_rank_knows_is_kept(
    tmp_path: Path, own: BaseException, kept: bool
) -> None:
    """Rank 1, on a machine that lacks a file, says nothing itself; the launcher ends rank 0."""
    line = "stage_failed | stage=pretrain | rank=1 | reason=no file on this machine"
    with pytest.raises(type(own)):
        fail_after(config_in(tmp_path), line, error=own)
    folder = tmp_path / "logs" / "v3" / "pretrain" / "mine"
    assert folder.exists() == kept


def test_ranks_other_than_0_write_nothing_but_their_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    monkeypatch.setattr(Accelerator, "process_index", 1)
    monkeypatch.setattr(run_module, "on_main_process", lambda accelerator, action: action())
    monkeypatch.setattr(run_module, "_lock", lambda run, held: None)
    with open_run("pretrain", config_in(tmp_path), Accelerator(cpu=True)) as run:
        run.event("data_ready")
        run.begin()
    assert list(run.log_dir.iterdir()) == []
    (run.log_dir / "log.log").touch()  # as rank 0 does
    with (
        pytest.raises(UserError),
        open_run("pretrain", config_in(tmp_path), Accelerator(cpu=True)) as run,
    ):
        raise UserError("a bad line")
    assert (run.log_dir / "log.log").read_text().endswith("rank=1 | reason=a bad line\n")


def test_the_debug_switch_gives_every_rank_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    monkeypatch.setattr(Accelerator, "process_index", 1)
    monkeypatch.setattr(run_module, "on_main_process", lambda accelerator, action: action())
    monkeypatch.setattr(run_module, "_lock", lambda run, held: None)
    monkeypatch.setenv("RELIC_LOG_ALL_RANKS", "1")
    with open_run("pretrain", config_in(tmp_path), Accelerator(cpu=True)) as run:
        run.event("data_ready")
    assert "data_ready" in (run.log_dir / "log.rank1.log").read_text()


def test_warnings_are_marked_as_such(tmp_path: Path) -> None:
    with open_run("pretrain", config_in(tmp_path), Accelerator(cpu=True)) as run:
        assert isinstance(run, Run)
        run.warn("embeddings_differ", keys=["a"])
    assert " WARNING embeddings_differ | keys=a" in (run.log_dir / "log.log").read_text()
    assert LOGGER.level == logging.INFO


def test_a_rank_that_does_not_see_the_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda outcome, **_: None)
    answers: list[str | None] = [None, None, None]
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [*own, *answers[1:]])
    three = OneProcess(num_processes=3)
    check_shared(three, tmp_path, "run_config.output_dir")
    answers[2] = "node9"
    said = rf"rank 2 on node9 does not see {tmp_path}, .*set run_config.output_dir to a directory"
    with pytest.raises(UserError, match=said):
        check_shared(three, tmp_path, "run_config.output_dir")
    assert list(tmp_path.iterdir()) == []
    # One process alone asks nobody.
    check_shared(OneProcess(), tmp_path / "missing", "run_config.output_dir")


def test_a_rank_says_that_it_does_not_see_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own disk there is no file that rank 0 has just written."""
    elsewhere = [str(tmp_path / "elsewhere")]
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("socket.gethostname", lambda: "node5")

    def receive(outcome: list[object], **_: object) -> None:
        outcome[0] = Path(elsewhere[0])

    monkeypatch.setattr("accelerate.utils.broadcast_object_list", receive)
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [None, *own])
    second = OneProcess(num_processes=2, process_index=1, is_main_process=False)
    with pytest.raises(UserError, match="rank 1 on node5 does not see"):
        check_shared(second, tmp_path, "run_config.output_dir")
