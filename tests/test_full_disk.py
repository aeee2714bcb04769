"""A disk that fills up under a CSV, a checkpoint or a shard: what was there stays whole."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.config import Config, RunConfig
from common.csv_log import EpochRow, write_training_csv
from common.data.embeddings.shards import Row, ShardWriter, read_shards
from common.errors import UserError
from common.inference.checkpoints import explain_library_errors
from common.run import open_run
from tests.faults import EPOCHS, Launch, Workshop, ended, log_tells, started, wait_for
from tests.preloads import FULL, quota_on
from tests.same_run import assert_same_run
from tests.tiny_benchmark import TinyProject, run_command
from tests.tiny_pairs import one_process
from tests.tiny_run import files_of_at_most


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four MiB, where mounting one is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leaving: int = 0) -> Path:
    """Take up all of a disk but so many bytes; the ballast can be thrown off."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    size = ballast.stat().st_size
    with ballast.open("r+b") as file:
        file.truncate(max(0, size - leaving))
    return ballast


def row(epoch: int) -> EpochRow:
    return EpochRow(epoch, 1.5, 0.7, 0.6, {"auroc": 0.5}, 1e-4)


def write_shards(folder: Path, rows: list[Row]) -> None:
    """Two rows to a shard."""
    for first in range(0, len(rows), 2):
        with ShardWriter(folder) as writer:
            for one in rows[first : first + 2]:
                writer.add([one])


def test_a_csv_that_does_not_fit_leaves_the_one_before(disk: Path) -> None:
    path = disk / "training_step.csv"
    write_training_csv(path, [row(1)], ["auroc"])
    before = path.read_bytes()
    fill(disk)
    with pytest.raises(UserError) as raised:
        write_training_csv(path, [row(epoch) for epoch in range(1, 500)], ["auroc"])
    assert str(path) in str(raised.value)
    assert "bytes): No space left on device; make room" in str(raised.value)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in disk.iterdir()) == ["ballast", "training_step.csv"]


def test_a_shard_that_does_not_fit_leaves_those_before(disk: Path) -> None:
    states = np.ones((1000, 64), dtype=np.float16)
    with pytest.raises(UserError) as raised:
        write_shards(disk, [Row(f"P{number}", f"{number:032x}", states) for number in range(40)])
    assert f"cannot write the embedding cache {disk} (128000 bytes): No space left" in str(
        raised.value
    )
    shards, broken = read_shards(disk)
    assert not broken
    assert sum(shard.rows for shard in shards) == 32
    assert not list(disk.glob(".*"))


def test_a_limit_of_file_sizes_is_reported_like_a_full_disk(tmp_path: Path) -> None:
    """A CSV and a shard that may not grow further, where no disk can be mounted too."""
    path = tmp_path / "training_step.csv"
    write_training_csv(path, [row(1)], ["auroc"])
    before = path.read_bytes()
    with files_of_at_most(2000), pytest.raises(UserError) as raised:
        write_training_csv(path, [row(epoch) for epoch in range(1, 500)], ["auroc"])
    assert re.search(
        rf"{re.escape(str(path))} \(\d{{5}} bytes\): File too large", str(raised.value)
    )
    assert path.read_bytes() == before
    shards = tmp_path / "shards"
    shards.mkdir()
    small, large = (np.ones((residues, 64), dtype=np.float16) for residues in (10, 1000))
    rows = [Row("P0", f"{0:032x}", small), Row("P1", f"{1:032x}", large)]
    write_shards(shards, rows[:1])
    with files_of_at_most(50_000), pytest.raises(UserError, match=r"128000 bytes\): File too lar"):
        write_shards(shards, rows[1:])
    found, broken = read_shards(shards)
    assert not broken
    assert sum(shard.rows for shard in found) == 1
    assert not [*tmp_path.glob(".*"), *shards.glob(".*")]


def test_a_checkpoint_that_does_not_fit_leaves_the_state_to_go_on_from(
    disk: Path, workshop: Workshop
) -> None:
    """Then, with room again, the run ends as if nothing had happened."""
    stage = workshop.training(Launch(1))
    moved = f"run_config.output_dir={disk}"
    with started(stage, "full") as process:
        wait_for(log_tells(stage, "full", "epoch_start | epoch=3"), process)
    for folder in stage.folders("full"):
        shutil.copytree(folder, disk / folder.relative_to(stage.project.output))
    state = disk / "models" / "v3" / "pretrain" / "full" / "last_state" / "progress.json"
    before = state.read_bytes()
    ballast = fill(disk, leaving=24_000)
    command = [*stage.command("full", True), moved]
    full = run_command(command, stage.project.folder)
    assert full.code == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert "cannot write " in full.stderr.splitlines()[-1]
    assert " bytes)" in full.stderr.splitlines()[-1]
    assert state.read_bytes() == before
    ballast.unlink()
    again = run_command(command, stage.project.folder)
    assert again.code == 0, again.stderr
    whole = stage.folders(workshop.whole(stage))[0]
    assert_same_run(disk / "models" / "v3" / "pretrain" / "full", whole, EPOCHS)


def test_the_system_is_asked_for_the_reason_that_a_library_hides(disk: Path) -> None:
    """PyTorch names a position in its own file, and transformers nothing at all."""
    hidden = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
    fill(disk, leaving=1_500_000)
    for needed, reason in ((4_000_000, "No space left on device"), (100, re.escape(hidden))):
        with (
            pytest.raises(UserError, match=rf"last_state \({needed} bytes\): {reason}; make room"),
            explain_library_errors(disk / "last_state", needed),
        ):
            raise RuntimeError(hidden)
    assert [path.name for path in disk.iterdir()] == ["ballast"]


def test_a_full_quota_is_named_and_a_run_goes_on_when_it_is_not(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First under the embedding cache, then under the run, in mid-training."""
    quota = tmp_path / "home"
    for name in ("cache", "runs"):
        (quota / name).mkdir(parents=True)
    for name, value in quota_on(quota, tmp_path).items():
        monkeypatch.setenv(name, value)
    cache, output = f"{quota}/cache", f"{quota}/runs"
    settings = (f"data_config.embeddings.cache_dir={cache}", f"run_config.output_dir={output}")
    stage = replace(workshop.training(Launch(1)), settings=settings)
    here = replace(stage, project=TinyProject(quota, stage.project.config))
    (quota / FULL).touch()
    cache_alone = replace(stage, settings=settings[:1])
    refused = run_command(cache_alone.command("refused", False), stage.project.folder)
    assert refused.code == 2, refused.stderr
    assert re.search(
        r"cannot write .*/cache.*: Disk quota exceeded; .* set data_config\.embeddings\.cache_dir",
        refused.stderr.splitlines()[-1],
    )
    (quota / FULL).unlink()
    with started(stage, "full") as process:
        wait_for(log_tells(here, "full", "step | epoch=3 | step=1/"), process)
        (quota / FULL).touch()
        finished = ended(process)
    assert finished.code == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    assert re.search(
        rf"cannot write {quota}/runs/.*: Disk quota exceeded; .* set run_config\.output_dir to an",
        finished.stderr.splitlines()[-1],
    )
    assert not [path for path in quota.rglob("*.tmp") if path.is_file()]
    (quota / FULL).unlink()
    again = run_command(stage.command("full", True), stage.project.folder)
    assert again.code == 0, again.stderr
    whole = workshop.training(Launch(1))
    assert_same_run(here.folders("full")[0], whole.folders(workshop.whole(whole))[0], EPOCHS)


def test_a_log_that_does_not_fit_is_still_printed_on_the_console(
    disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(run_config=RunConfig(output_dir=str(disk), pretrain_run_id="mine"))
    with open_run("pretrain", config, one_process()) as run:
        fill(disk)
        for number in range(100):
            run.event("step", text="x" * 100, number=number)
    printed = capsys.readouterr().err
    assert "number=99" in printed
    assert "Traceback" not in printed
