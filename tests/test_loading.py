"""Batches from worker processes: the same ones, and an end when a worker or its memory is gone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from common.config import TrainingConfig
from common.config_data import DataloaderConfig
from common.data import loading
from common.data.batches import BatchPlanner, RankBatches
from common.data.loading import BYTES_PER_BATCH, SharedBatches, count_workers, load_batches
from common.errors import UserError
from common.failures import explain_failure
from common.pausing import Paused, PauseRequest, outlive_signals
from tests.tiny_esm import record_log
from tests.tiny_pairs import make_pairs

TWO = DataloaderConfig(num_workers=2)


@pytest.fixture
def batches() -> RankBatches:
    """Ten batches of eight pairs, but for the last."""
    data = make_pairs(75)
    plan = BatchPlanner.from_settings(data, TWO, TrainingConfig(batch_size=8), 1, 47)
    return RankBatches(data, plan.rounds(0), 0, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_a_later_start_change_no_batch(workers: int, batches: RankBatches) -> None:
    """Nor do they draw from the global random state, which would spoil an exact resume."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = list(load_batches(batches, DataloaderConfig(num_workers=workers), first=4))
    assert torch.equal(torch.get_rng_state(), before)
    expected = [batches[i] for i in range(4, len(batches))]
    assert [batch.rows.tolist() for batch in found] == [b.rows.tolist() for b in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.names == theirs.names
        assert torch.equal(ours.proteins, theirs.proteins)
        assert np.array_equal(ours.pairs, theirs.pairs)
        assert np.array_equal(ours.lengths, theirs.lengths)


def test_a_worker_that_finds_shared_memory_full_ends_the_run(
    batches: RankBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch reported it in a thread of the worker, and the run waited for ever."""

    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(UserError, match=r"shared memory \(/dev/shm, \d+ bytes.*num_workers"):
        list(load_batches(batches, TWO))
    # Without workers none is needed.
    assert len(list(load_batches(batches, DataloaderConfig()))) == 10


def test_a_signal_does_not_end_a_worker_that_is_not_ready(
    batches: RankBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own handler ended a worker that was just starting: exit code 2 instead of 75."""

    def interrupted(worker: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        outlive_signals(worker)

    monkeypatch.setattr(loading, "outlive_signals", interrupted)
    assert len(list(load_batches(batches, TWO))) == 10
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_killed_worker_is_explained(
    batches: RankBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(shared: SharedBatches, index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(SharedBatches, "__getitem__", die)
    with pytest.raises(RuntimeError) as caught:
        list(load_batches(batches, DataloaderConfig(num_workers=1)))
    explained = explain_failure(caught.value)
    assert explained is not None
    assert "data loader's worker process" in str(explained)


@pytest.fixture
def request_(monkeypatch: pytest.MonkeyPatch) -> Iterator[PauseRequest]:
    """A process in training, which remembers SIGUSR1 and waits a moment for its next batch."""
    request = PauseRequest(waiting=True)
    monkeypatch.setattr(loading, "PAUSE", request)
    monkeypatch.setattr("common.pausing.WAIT_SECONDS", 0.3)
    before = signal.signal(signal.SIGUSR1, request._hear)
    yield request
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGUSR1, before)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize("early", [True, False])
def test_a_signal_is_heard_while_a_batch_does_not_come(
    early: bool, batches: RankBatches, request_: PauseRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that came before: the next update, where it would be heard, is never reached."""
    monkeypatch.setattr(SharedBatches, "__getitem__", lambda shared, index: time.sleep(2))
    wait = 0.0 if early else 0.5
    threading.Timer(wait, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    if early:
        time.sleep(0.2)
    with pytest.raises(Paused, match=r"on SIGUSR1 while waiting in vain for a batch; resume"):
        list(load_batches(batches, DataloaderConfig(num_workers=1)))


def test_a_signal_does_not_end_an_epoch_whose_batches_come(
    batches: RankBatches, request_: PauseRequest
) -> None:
    """It waits for the update; the process may train for longer than it would wait."""
    loaded = load_batches(batches, DataloaderConfig(num_workers=1))
    next(loaded)
    os.kill(os.getpid(), signal.SIGUSR1)
    next(loaded)
    time.sleep(0.5)
    assert len(list(loaded)) == 8
    assert request_.heard == "SIGUSR1"


def test_workers_are_as_many_as_shared_memory_has_room_for(
    batches: RankBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches for each worker, one in use and one just taken: the largest of the epoch."""
    sizes = sorted((batches[i].proteins.nbytes + BYTES_PER_BATCH for i in range(10)), reverse=True)
    for workers in (1, 2, 3):
        needed = sum(sizes[: 2 * workers + 2])
        monkeypatch.setattr(loading, "_free_bytes", lambda needed=needed: needed)
        with record_log() as log:
            assert count_workers(batches, workers) == workers
        assert log.lines == []
        monkeypatch.setattr(loading, "_free_bytes", lambda needed=needed: needed - 1)
        with record_log() as log:
            assert count_workers(batches, workers) == workers - 1
        assert f"fewer_workers | num_workers={workers} | used={workers - 1}" in log.lines[0]
    # Two processes of one machine share its memory.
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(loading, "_free_bytes", lambda: 2 * sum(sizes[:6]) - 1)
    assert count_workers(batches, 2) == 1
