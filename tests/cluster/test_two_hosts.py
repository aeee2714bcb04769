"""Runs on two hosts, and what cuts them off.

    RELIC_RUN_NETWORK_E2E=1 python -m pytest -s tests/cluster/test_two_hosts.py

Prints a table: fault, what was seen, and the seconds until every rank had ended.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import faults
from tests.cluster.hosts import PATIENCE, Hosts, Launched, launched, running_hosts, why_not
from tests.faults import (
    Launch,
    Training,
    Workshop,
    log_of,
    log_tells,
    process_of_rank,
    running,
    wait_for,
)
from tests.preloads import HOUR, wrong_clock

# Seconds; the default is five minutes.
LIMIT = 20
SETTINGS = (f"run_config.rank_timeout_seconds={LIMIT}",)
CASES = (
    "undisturbed", "5 % of the packets lost", "a clock an hour ahead", "a clock an hour behind"
)  # fmt: skip
SILENT = r"pretrain\.py: stopped: rank {} on {} (has given no sign of life for \d+ sec|ended )"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Two fresh hosts."""
    if os.environ.get("RELIC_RUN_NETWORK_E2E") != "1":
        pytest.skip("makes hosts and trains on them, for minutes: set RELIC_RUN_NETWORK_E2E=1")
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with running_hosts(tmp_path / "hosts") as running:
        yield running


def on_two_hosts(
    hosts: Hosts, stage: Training, name: str, again: bool = False,
    before: Sequence[Sequence[str]] = ((), ()), options: Sequence[str] = (),
) -> AbstractContextManager[Launched]:  # fmt: skip
    """Train on both hosts, with the batches of two processes."""
    script = stage.command(name, again)[5:]
    return launched(hosts, [*options, *script], stage.project.folder, before)


def finish(hosts: Hosts, stage: Training, name: str, workshop: Workshop) -> None:
    """Resume on both hosts; the end is the same as on one host, never interrupted."""
    with on_two_hosts(hosts, stage, name, again=True) as again:
        assert again.wait() == [0, 0], again.said()
    stage.compare(name, workshop.whole(Training(workshop.project, Launch(2))))


def in_epoch(stage: Training, name: str, epoch: int) -> Callable[[], bool]:
    return log_tells(stage, name, f"step | epoch={epoch} | step=1/")


def report(fault: str, launch: Launched, since: float, bits: str = "the same") -> None:
    seconds = "; ".join(
        f"host{n + 1} {end - since:.1f} s" for n, end in sorted(launch.ended.items())
    )
    said = " / ".join((launch.sentences(number) or ["nothing"])[-1] for number in (0, 1))
    sys.stderr.write(f"\n| {fault} | {seconds} | {bits} | {said} |\n")


@pytest.fixture
def stage(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setattr(faults, "PATIENCE", PATIENCE)
    return Training(workshop.project, Launch(2), settings=SETTINGS)


@pytest.mark.parametrize("case", CASES)
def test_two_hosts_give_the_bits_of_one(
    case: str, hosts: Hosts, stage: Training, workshop: Workshop, tmp_path: Path
) -> None:
    stage.settings = ()  # nobody is lost, however slowly this machine starts
    before: tuple[Sequence[str], Sequence[str]] = ((), ())
    if case.startswith("5 %"):
        hosts.do("lose", "host2", "5")
    if case.startswith("a clock"):
        clock = wrong_clock(tmp_path, HOUR if case.endswith("ahead") else -HOUR)
        assert clock, "there is no C compiler (cc) to shift a clock with"
        before = ((), ("env", *(f"{name}={value}" for name, value in clock.items())))
    name = f"hosts-{case.replace(' ', '-').replace('%', 'percent')}"
    began = time.monotonic()
    with on_two_hosts(hosts, stage, name, before=before) as launch:
        assert launch.wait() == [0, 0], launch.said()
        report(case, launch, began)
    stage.compare(name, workshop.whole(Training(workshop.project, Launch(2))))


def test_a_cut_cable_ends_both_hosts(hosts: Hosts, stage: Training, workshop: Workshop) -> None:
    with on_two_hosts(hosts, stage, "cable") as launch:
        launch.wait_for(in_epoch(stage, "cable", 3))
        hosts.do("cut", "host2")
        since = time.monotonic()
        codes = launch.wait()
    assert 0 not in codes
    assert re.search(SILENT.format(1, "host2"), launch.said(0)), launch.said()
    assert re.search(SILENT.format(0, "host1"), launch.said(1)), launch.said()
    assert max(launch.ended.values()) - since < LIMIT + 40
    assert "stage_failed | " in log_of(stage, "cable").read_text()
    hosts.do("plug", "host2")
    finish(hosts, stage, "cable", workshop)
    report("cable cut in mid-epoch", launch, since)


def test_a_frozen_host_is_named_and_ends_when_it_thaws(
    hosts: Hosts, stage: Training, workshop: Workshop
) -> None:
    with on_two_hosts(hosts, stage, "frozen") as launch:
        launch.wait_for(in_epoch(stage, "frozen", 2))
        hosts.signal("host2", signal.SIGSTOP)
        since = time.monotonic()
        assert launch.wait(0) != [0]
        assert launch.ended[0] - since < LIMIT + 40
        hosts.signal("host2", signal.SIGCONT)
        assert launch.wait(1) != [0]
    assert re.search(SILENT.format(1, "host2"), launch.said(0)), launch.said()
    assert re.search(SILENT.format(0, "host1"), launch.said(1)), launch.said()
    finish(hosts, stage, "frozen", workshop)
    report("host frozen, thawed when the other had ended", launch, since)


def test_a_killed_host_is_named(
    hosts: Hosts, stage: Training, workshop: Workshop, tmp_path: Path
) -> None:
    with on_two_hosts(hosts, stage, "killed") as launch:
        launch.wait_for(in_epoch(stage, "killed", 3))
        hosts.do("kill", "host2")
        since = time.monotonic()
        assert launch.wait()[0] != 0
    assert launch.ended[0] - since < LIMIT + 40
    assert re.search(SILENT.format(1, "host2"), launch.said(0)), launch.said()
    with running_hosts(tmp_path / "new hosts") as others:
        finish(others, stage, "killed", workshop)
    report("host killed", launch, since)


@pytest.mark.parametrize("key", ["run_config.output_dir", "data_config.embeddings.cache_dir"])
def test_a_host_that_does_not_see_the_shared_folder_stops_both(
    key: str, hosts: Hosts, stage: Training
) -> None:
    project = stage.project
    fresh = project.folder / f"unshared {key}"
    fresh.mkdir()
    stage.settings = (*SETTINGS, f"{key}={fresh}")
    hidden = ("sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(fresh))
    with on_two_hosts(hosts, stage, "blind", before=((), hidden)) as launch:
        codes = launch.wait()
    assert 0 not in codes
    found = launch.sentences(0)
    assert len(found) == 1, launch.said()
    assert re.search(rf"rank 1 on host2 does not see {fresh}.*set {key} to a", found[0]), found


# Rank 1 then looks for rank 0 while the launcher's store still has the address of the old rank 0.
LATE = """
import os, time
if os.environ.get("RANK") == "0" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "1":
    time.sleep(5)
"""


def test_the_launcher_restarts_both_processes(
    stage: Training, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--max_restarts`: after one was killed, both start again and resume, rank 0 later."""
    if os.environ.get("RELIC_RUN_NETWORK_E2E") != "1":
        pytest.skip("trains for a minute: set RELIC_RUN_NETWORK_E2E=1")
    (tmp_path / "sitecustomize.py").write_text(LATE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    command = stage.command("restarted", again=True)
    position = command.index("--config_file")
    command[position:position] = ["--max_restarts", "1"]
    with running(command, stage.project.folder) as process:
        wait_for(in_epoch(stage, "restarted", 3), process)
        os.kill(process_of_rank(process, 1), signal.SIGKILL)
        assert process.wait(timeout=600) == 0
    assert log_of(stage, "restarted").read_text().count("pipeline_bootstrap") == 2
    stage.compare("restarted", workshop.whole(Training(workshop.project, Launch(2))))
