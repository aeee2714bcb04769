"""Several processes, and several runs, fill one cache without getting into each other's way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from common.config_data import EmbeddingsConfig
from common.data.embeddings.build import EmbeddingStore, prepare_store
from common.data.embeddings.claims import Claim
from common.data.embeddings.plan import make_requests, plan_batches
from common.data.embeddings.shards import Shard, read_shards
from common.data.embeddings.store_lock import lock_store
from common.errors import UserError
from tests.tiny_benchmark import run_command
from tests.tiny_esm import MAX_LENGTH, SEQUENCES, record_log, save_tiny_esm

DRIVER = """
import json, os, sys, time
import torch
from accelerate import Accelerator
from common.config_data import EmbeddingsConfig
from common.data.embeddings import build as embeddings, fill
from common.errors import UserError

order = json.loads(sys.argv[1])
accelerator = Accelerator(cpu=not torch.cuda.is_available())
rank = accelerator.process_index
fill.PIECE_SECONDS = 0.0
embed_batch = fill._embed_batch

def prepare(cache):
    settings = EmbeddingsConfig(**order["settings"] | {"cache_dir": cache})
    return embeddings.prepare_store(order["sequences"], settings, 100, accelerator)

def slow(*arguments):
    time.sleep(order["sleep"])
    return embed_batch(*arguments)

def fail_on_last_rank(*arguments):
    if rank == accelerator.num_processes - 1:
        raise UserError("raised on the last rank")
    return embed_batch(*arguments)

report = {}
if order["fail"]:
    fill._embed_batch = fail_on_last_rank
    try:
        prepare(order["settings"]["cache_dir"] + "-failing")
    except UserError as error:
        report["error"] = str(error)
fill._embed_batch = slow
store = prepare(order["settings"]["cache_dir"])
report["states"] = {name: store[name].tobytes().hex() for name in store}
with open(f"{order['output']}/rank{rank}.json", "w") as file:
    json.dump(report, file)
accelerator.end_training()
# As the scripts end: threads of libraries can abort the interpreter while it shuts down.
os._exit(0)
"""

TWO_PROCESSES = """
distributed_type: MULTI_GPU
use_cpu: true
num_processes: 2
num_machines: 1
machine_rank: 0
mixed_precision: "no"
"""


@pytest.fixture
def settings(tmp_path: Path) -> EmbeddingsConfig:
    return EmbeddingsConfig(
        model_name=str(save_tiny_esm(tmp_path / "tiny")),
        cache_dir=str(tmp_path / "cache"),
        tokens_per_batch=512,
    )


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=not torch.cuda.is_available())


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are taken in another order by another number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that a process shall bring about while it runs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def shards_in(cache: Path) -> list[Shard]:
    (directory,) = (path for path in cache.iterdir() if path.is_dir())
    return read_shards(directory)[0]


def start_driver(
    tmp_path: Path,
    settings: EmbeddingsConfig,
    launcher: list[str],
    sleep: float = 0.0,
    fail: bool = False,
) -> subprocess.Popen[bytes]:
    """Run `prepare_store` in other processes, a shard per batch."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    order = {
        "sequences": SEQUENCES,
        "settings": settings.model_dump(),
        "sleep": sleep,
        "fail": fail,
        "output": str(tmp_path),
    }
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, *launcher, str(script), json.dumps(order)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )


@pytest.mark.two_processes
@pytest.mark.usefixtures("one_thread")
def test_two_processes_fill_the_cache_like_one(
    settings: EmbeddingsConfig, accelerator: Accelerator, tmp_path: Path
) -> None:
    """And an error on one of them is raised on both, which would otherwise wait for each other."""
    config = tmp_path / "two.yaml"
    config.write_text(TWO_PROCESSES)
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    two = settings.model_copy(update={"cache_dir": str(tmp_path / "two")})
    process = start_driver(tmp_path, two, [*launcher, "--main_process_port", "0"], fail=True)
    alone = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()[-3000:]

    for rank in range(2):
        report = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert report["error"] == "raised on the last rank"
        assert report["states"] == {name: alone[name].tobytes().hex() for name in SEQUENCES}
    requests = make_requests(SEQUENCES, MAX_LENGTH)
    assert isinstance(settings.tokens_per_batch, int)
    batches = plan_batches(requests, settings.tokens_per_batch, 2, MAX_LENGTH)
    assert len(shards_in(tmp_path / "two")) == len(batches)
    # The build that failed on rank 1 kept what rank 0 had computed of the same piece.
    kept = shards_in(tmp_path / "two-failing")
    assert [shard.rows for shard in kept] == [len(batches[0])]


@pytest.mark.two_processes
@pytest.mark.parametrize("options", ["--rounds 2", "--rounds 1 --no-flock"])
def test_runs_that_start_at_once_share_the_work_on_a_fresh_cache(options: str) -> None:
    """They deleted each other's temporary files: a third of them failed."""
    race = [sys.executable, "-m", "tests.embedding_race", "--runs", "3", *options.split()]
    done = run_command(race, Path(__file__).parents[1])
    assert done.stdout.startswith("0 of "), done.stdout + done.stderr


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_mount_that_refuses_locks_is_named_and_not_called_full(
    code: int,
    settings: EmbeddingsConfig,
    accelerator: Accelerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(handle: int, operation: int) -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"support file locks \(.*embeddings.cache_dir") as caught:
        prepare_store({"M": "M"}, settings, MAX_LENGTH, accelerator)
    assert "make room" not in str(caught.value)


def test_a_read_only_cache_serves_what_it_has_and_is_named_for_the_rest(
    tmp_path: Path, settings: EmbeddingsConfig, accelerator: Accelerator
) -> None:
    """A laboratory's common cache, which only one person may write."""
    prepare_store({"M": "M"}, settings, MAX_LENGTH, accelerator)
    cache = Path(settings.cache_dir)
    with read_only(cache):
        with record_log() as log:
            prepare_store({"M": "M"}, settings, MAX_LENGTH, accelerator)
        assert log.computed() == 0
        with pytest.raises(UserError, match=rf"cannot write .*{cache}.*embeddings.cache_dir"):
            prepare_store({"M": "M", "W": "W"}, settings, MAX_LENGTH, accelerator)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A mount that nobody can write, not even root."""
    for mount in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
        done = subprocess.run(["mount", *mount, str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_run_does_not_wait_for_one_that_computes_other_proteins(
    settings: EmbeddingsConfig, accelerator: Accelerator
) -> None:
    names = list(SEQUENCES)
    prepare_store({"M": "M"}, settings, MAX_LENGTH, accelerator)
    (directory,) = (path for path in Path(settings.cache_dir).iterdir() if path.is_dir())
    theirs = make_requests({name: SEQUENCES[name] for name in names[:20]}, MAX_LENGTH)
    with record_log() as log, Claim(directory) as other:
        with lock_store(directory):
            other.replace([request.sequence_hash for request in theirs])
        unfinished = directory / f".{other.owner}.0123.tmp"
        unfinished.touch()
        ours = {name: SEQUENCES[name] for name in names[20:]}
        prepare_store(ours, settings, MAX_LENGTH, accelerator)
        assert log.events() == ["embeddings_ready"]
        assert unfinished.exists()


def test_a_run_computes_what_is_unclaimed_and_then_takes_over_a_void_claim(
    settings: EmbeddingsConfig, accelerator: Accelerator
) -> None:
    prepare_store({"M": "M"}, settings, MAX_LENGTH, accelerator)
    (directory,) = (path for path in Path(settings.cache_dir).iterdir() if path.is_dir())
    requests = make_requests(SEQUENCES, MAX_LENGTH)
    claimed = [request.sequence_hash for request in requests[:10]]
    other = Claim(directory)
    with lock_store(directory):
        other.replace(claimed)
    stores: list[EmbeddingStore] = []
    run = threading.Thread(
        target=lambda: stores.append(prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)),
        daemon=True,
    )
    with record_log() as log:
        run.start()
        while "embeddings_waiting" not in log.events():
            assert run.is_alive()
            time.sleep(0.01)
        stored = sum(shard.rows for shard in read_shards(directory)[0])
        # The other run might be waiting for this one.
        claims = {path.read_text() for path in directory.glob(".*.claim")}
        # As if the other run had been killed.
        other.__exit__(KeyboardInterrupt)
        run.join(timeout=60)
    assert stores
    assert log.events() == ["embeddings_waiting", "embeddings_ready"]
    assert claims == {"", "\n".join(claimed)}
    assert stored == 1 + len(SEQUENCES) - 10
    assert log.computed() == len(SEQUENCES)
    assert not list(directory.glob(".*"))


@pytest.mark.two_processes
def test_a_killed_run_frees_its_lock_and_leaves_what_it_flushed(
    settings: EmbeddingsConfig, accelerator: Accelerator, tmp_path: Path
) -> None:
    process = start_driver(tmp_path, settings, [], sleep=1.0)
    wait_until(lambda: any(Path(settings.cache_dir).glob("*/data-*.json")), process)
    with record_log() as log:

        def kill_once_waited_for() -> None:
            wait_until(lambda: "embeddings_waiting" in log.events(), process)
            process.kill()

        threading.Thread(target=kill_once_waited_for).start()
        store = prepare_store(SEQUENCES, settings, MAX_LENGTH, accelerator)
    process.communicate()
    assert log.events() == ["embeddings_waiting", "embeddings_ready"]
    assert 0 < log.computed() < len(SEQUENCES)
    undisturbed = settings.model_copy(update={"cache_dir": str(tmp_path / "undisturbed")})
    expected = prepare_store(SEQUENCES, undisturbed, MAX_LENGTH, accelerator)
    for name in SEQUENCES:
        # The batches are those that the killed run would have computed.
        np.testing.assert_array_equal(store[name], expected[name])
    assert not list(Path(settings.cache_dir).glob("*/.*"))
