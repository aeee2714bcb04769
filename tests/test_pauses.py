"""Stages that are told to stop, or started twice: they save where they stand, and take turns."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from common.command_line import EXIT_PAUSED
from tests.faults import (
    Launch,
    Training,
    ended,
    live,
    log_of,
    log_tells,
    make_stage,
    signal_all,
    started,
    wait_for,
)

pytestmark = pytest.mark.launch

PAUSES = {
    "SIGTERM": (signal.SIGTERM, Launch(1), EXIT_PAUSED),
    "SIGUSR1-workers": (signal.SIGUSR1, Launch(1, workers=2), EXIT_PAUSED),
    # The launcher has an exit code of its own.
    "SIGUSR1-2": (signal.SIGUSR1, Launch(2), 1),
}


@pytest.mark.parametrize("case", PAUSES)
def test_a_signal_saves_in_mid_epoch_and_the_run_goes_on_from_there(
    case: str, tmp_path: Path
) -> None:
    number, launch, code = PAUSES[case]
    stage = make_stage("pretrain", tmp_path, launch)
    assert isinstance(stage, Training)
    live(stage, "whole", False, None)
    with started(stage, "cut") as process:
        wait_for(log_tells(stage, "cut", "step | epoch=3 | step=1/"), process)
        signal_all(process, number)
        finished = ended(process)
    assert finished.code == code, finished.stderr
    assert "pretrain.py: paused in epoch 3 after step" in finished.stderr
    assert f"on {number.name}; --resume goes on (run id cut)" in finished.stderr
    lines = log_of(stage, "cut").read_text().splitlines()
    assert "stage_paused | stage=pretrain | reason=in epoch 3 after step" in lines[-1]
    assert "stage_failed" not in "".join(lines)
    live(stage, "cut", True, None)
    stage.compare("cut", "whole")
    # It did not begin the epoch anew.
    again = log_of(stage, "cut").read_text().rpartition("pipeline_bootstrap")[2]
    assert "epoch_start | epoch=3" in again
    assert "steps_done=" in again
    assert "step | epoch=3 | step=1/" not in again


def test_a_signal_before_training_ends_at_once(tmp_path: Path) -> None:
    """Nothing is lost then: what is embedded is in the cache."""
    stage = make_stage("pretrain", tmp_path, Launch(1))
    with started(stage, "early") as process:
        wait_for(log_tells(stage, "early", "pipeline_bootstrap"), process)
        process.send_signal(signal.SIGTERM)
        finished = ended(process)
    assert finished.code == EXIT_PAUSED, finished.stderr
    assert finished.stderr.splitlines()[-1] == (
        "pretrain.py: paused on SIGTERM; start it again to go on"
    )


def test_a_run_that_is_running_is_not_run_a_second_time(tmp_path: Path) -> None:
    """Two launches with one run id wrote into one log and overwrote each other's checkpoints."""
    stage = make_stage("pretrain", tmp_path, Launch(1))
    with started(stage, "mine") as process:
        wait_for(log_tells(stage, "mine", "stage_start"), process)
        os.kill(process.pid, signal.SIGSTOP)
        for again in (False, True):
            with started(stage, "mine", again) as second:
                refused = ended(second)
            assert refused.code == 2
            assert "mine is in use by another process; wait for its end" in refused.stderr
        os.kill(process.pid, signal.SIGCONT)
        assert ended(process).code == 0
    assert log_of(stage, "mine").read_text().count("pipeline_bootstrap") == 1


def test_two_runs_at_once_share_one_embedding_cache(tmp_path: Path) -> None:
    """Started together on an empty cache, one embeds and the other waits; nothing twice."""
    stage = make_stage("pretrain", tmp_path, Launch(1))
    with started(stage, "one") as one, started(stage, "two") as two:
        assert [ended(process).code for process in (one, two)] == [0, 0]
    logs = [log_of(stage, name).read_text() for name in ("one", "two")]
    computed = [int(log.partition("computed=")[2].split()[0]) for log in logs]
    assert sorted(computed) == [0, 39]
    stage.compare("one", "two")
