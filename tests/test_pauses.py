"""Stages that are told to stop, or started twice: they save where they stand, and take turns."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.command_line import EXIT_PAUSED
from tests.faults import (
    EPOCHS,
    Launch,
    Workshop,
    ended,
    live,
    log_of,
    log_tells,
    process_of_rank,
    signal_all,
    started,
    wait_for,
)
from tests.tiny_benchmark import ROOT

pytestmark = pytest.mark.launch

PAUSES = {
    "SIGTERM-workers": (signal.SIGTERM, Launch(1, workers=2), EXIT_PAUSED),
    # The launcher has an exit code of its own.
    "SIGUSR1-2": (signal.SIGUSR1, Launch(2), 1),
}


@pytest.mark.parametrize("case", PAUSES)
def test_a_signal_saves_in_mid_epoch_and_the_run_goes_on_from_there(
    case: str, workshop: Workshop
) -> None:
    number, launch, code = PAUSES[case]
    stage, name = workshop.training(launch), f"paused-{case}"
    with started(stage, name) as process:
        wait_for(log_tells(stage, name, "step | epoch=3 | step=1/"), process)
        signal_all(process, number)
        finished = ended(process)
    assert finished.code == code, finished.stderr
    assert "pretrain.py: paused in epoch 3 after step" in finished.stderr
    assert f"on {number.name}; resume it with --resume (run id {name})" in finished.stderr
    lines = log_of(stage, name).read_text().splitlines()
    assert "stage_paused | stage=pretrain | reason=in epoch 3 after step" in lines[-1]
    assert "stage_failed" not in "".join(lines)
    live(stage, name, True, None)
    stage.compare(name, workshop.whole(stage))
    # It did not begin the epoch anew.
    again = log_of(stage, name).read_text().rpartition("pipeline_bootstrap")[2]
    assert "epoch_start | epoch=3" in again
    assert "steps_done=" in again
    assert "step | epoch=3 | step=1/" not in again


def test_ctrl_c_in_a_terminal_saves_on_two_processes(workshop: Workshop) -> None:
    """The terminal signals the launcher's group; the launcher passes it on to its processes."""
    stage, name = workshop.training(Launch(2)), "ctrl-c"
    with started(stage, name) as process:
        wait_for(log_tells(stage, name, "step | epoch=2 | step=1/"), process)
        os.killpg(process.pid, signal.SIGINT)
        finished = ended(process)
    assert finished.code != 0
    assert finished.stderr.count("pretrain.py: paused in epoch 2 after step") == 2
    assert "on SIGINT; resume it with --resume (run id ctrl-c)" in finished.stderr
    assert finished.stderr.count("Ctrl-C again stops at once, without saving") == 1
    live(stage, name, True, None)
    stage.compare(name, workshop.whole(stage))


def test_a_signal_to_one_process_alone_pauses_both(workshop: Workshop) -> None:
    """Had only that one stopped, the other would wait for it in the next update."""
    stage, name = workshop.training(Launch(2)), "one-told"
    with started(stage, name) as process:
        wait_for(log_tells(stage, name, "step | epoch=2 | step=1/"), process)
        os.kill(process_of_rank(process, 1), signal.SIGUSR1)
        finished = ended(process)
    assert finished.code == 1
    paused = [line for line in finished.stderr.splitlines() if "pretrain.py: paused" in line]
    assert len(paused) == 2, finished.stderr
    assert sum("on SIGUSR1; resume it with --resume" in line for line in paused) == 1
    assert (
        sum("on the signal of another process; resume it with --resume" in line for line in paused)
        == 1
    )
    live(stage, name, True, None)
    stage.compare(name, workshop.whole(stage))


def test_the_launcher_hands_on_a_signal_that_it_alone_gets(workshop: Workshop) -> None:
    """As from a shell's or a service's kill: the launcher gives its processes time to save."""
    stage, name = workshop.training(Launch(2)), "launcher-told"
    with started(stage, name) as process:
        wait_for(log_tells(stage, name, "step | epoch=2 | step=1/"), process)
        process.send_signal(signal.SIGTERM)
        finished = ended(process)
    assert finished.code != 0
    assert "stage_paused" in log_of(stage, name).read_text(), finished.stderr
    assert finished.stderr.count("pretrain.py: paused in epoch 2 after step") == 2


@pytest.mark.parametrize(("epoch", "code"), [(2, EXIT_PAUSED), (EPOCHS, 0)])
def test_a_signal_during_validation_waits_for_the_next_update(
    epoch: int, code: int, workshop: Workshop, tmp_path: Path
) -> None:
    """The epoch that is judged is kept; with no update left, the stage ends as ever."""
    stage, name = workshop.training(Launch(1)), f"validating-{epoch}"
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED_IN_VALIDATION.format(root=str(ROOT), epoch=epoch))
    _, _, *arguments = stage.command(name, False)
    finished = stage.project.run([sys.executable, str(script), *arguments])
    assert finished.code == code, finished.stderr
    log = log_of(stage, name).read_text()
    assert f"epoch_complete | epoch={epoch}" in log
    if code == EXIT_PAUSED:
        assert f"stage_paused | stage=pretrain | reason=in epoch {epoch + 1} after step" in log
        # It is resumed where no number follows from, and gives the same bits.
        moved = shutil.copytree(stage.project.folder / "data", tmp_path / "moved")
        live(replace(stage, settings=elsewhere(moved)), name, True, None)
    stage.compare(name, workshop.whole(stage))


def elsewhere(data: Path) -> tuple[str, ...]:
    """Settings of every group that a resumed run may change, with the data moved to this place."""
    return (
        f"data_config.benchmark.root_dir={data}",
        f"data_config.benchmark.cache_dir={data / 'cache'}",
        f"data_config.embeddings.cache_dir={data / 'embeddings'}",
        "data_config.embeddings.shard_mib=1",
        "data_config.dataloader.num_workers=1",
        "training_config.logging.heartbeat_every_n_steps=3",
        "evaluate.tasks=[topology]",
        "evaluate.metrics=[f1]",
    )


SIGNALLED_IN_VALIDATION = """
import os, runpy, signal, sys

sys.path.insert(0, {root!r})
from common.training.validation import Validator

validate = Validator.validate


def signalled(self, model, epoch):
    if epoch == {epoch}:
        os.kill(os.getpid(), signal.SIGUSR1)
    return validate(self, model, epoch)


Validator.validate = signalled
sys.argv = sys.argv[1:]
runpy.run_path({root!r} + "/" + sys.argv[0], run_name="__main__")
"""


def test_a_signal_while_scoring_keeps_the_finished_tiles(workshop: Workshop) -> None:
    stage, name = workshop.stage("scoring", Launch(1)), "half-scored"
    whole = workshop.whole(stage)
    kept = stage.folders(name)[0]
    with started(stage, name) as process:
        wait_for(lambda: any(kept.glob("*.f32")), process)
        process.send_signal(signal.SIGINT)
        finished = ended(process)
    assert finished.code == EXIT_PAUSED, finished.stderr
    assert finished.stderr.splitlines()[-1] == (
        "evaluate.py: paused on SIGINT; run the same command again to continue"
    )
    assert "stage_paused | stage=evaluate" in log_of(stage, name).read_text()
    live(stage, name, True, None)
    assert "scoring_resumed | pairs_kept=" in log_of(stage, name).read_text()
    stage.compare(name, whole)


def test_a_signal_before_training_ends_at_once(workshop: Workshop) -> None:
    """Nothing is lost then: what is embedded is in the cache."""
    stage = workshop.training(Launch(1))
    with started(stage, "early") as process:
        wait_for(log_tells(stage, "early", "pipeline_bootstrap"), process)
        process.send_signal(signal.SIGTERM)
        finished = ended(process)
    assert finished.code == EXIT_PAUSED, finished.stderr
    assert finished.stderr.splitlines()[-1] == (
        "pretrain.py: paused on SIGTERM; run the same command again to continue"
    )


def test_a_run_that_is_running_is_not_run_a_second_time(workshop: Workshop) -> None:
    """Two launches with one run id wrote into one log and overwrote each other's checkpoints."""
    stage = workshop.training(Launch(1))
    with started(stage, "mine") as process:
        wait_for(log_tells(stage, "mine", "stage_start"), process)
        os.kill(process.pid, signal.SIGSTOP)
        with started(stage, "mine", again=True) as second:
            refused = ended(second)
        assert refused.code == 2
        assert "mine is in use by another process; wait until it ends" in refused.stderr
        os.kill(process.pid, signal.SIGCONT)
        assert ended(process).code == 0
    assert log_of(stage, "mine").read_text().count("pipeline_bootstrap") == 1


def test_two_runs_at_once_share_one_embedding_cache(tmp_path: Path) -> None:
    """Started together on an empty cache, they share the work: no sequence is computed twice."""
    stage = Workshop.open(tmp_path).training(Launch(1))
    with started(stage, "one") as one, started(stage, "two") as two:
        assert [ended(process).code for process in (one, two)] == [0, 0]
    logs = [log_of(stage, name).read_text() for name in ("one", "two")]
    computed = [int(log.partition("computed=")[2].split()[0]) for log in logs]
    assert sum(computed) == 39
    stage.compare("one", "two")
