"""Process groups: ranks that agree, and an end that does not hang."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch.distributed
from accelerate.state import AcceleratorState
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _get_default_store

from common.config import Config
from common.launch import start_accelerator
from tests.tiny_benchmark import ROOT, environment_of

pytestmark = pytest.mark.two_processes

RANK = """
import sys
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel
from common.launch import Agreement, hold_group

rank, folder = int(sys.argv[1]), sys.argv[2]
for number in range(100):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/{number}", rank=rank, world_size=2
    )
    hold_group(dist.group.WORLD)
    model = DistributedDataParallel(torch.nn.Linear(4, 4))
    model(torch.ones(2, 4)).sum().backward()
    if number == 0:
        class Two:
            num_processes = 2
        agreement = Agreement(Two())
        print([agreement.any(own) for own in (False, rank == 1, rank == 0, True)])
    dist.broadcast_object_list(["told"], 0)
    dist.destroy_process_group()
    del model
print("ended")
"""


@pytest.mark.two_processes
def test_letting_go_of_a_model_does_not_wait_for_its_group_forever(tmp_path: Path) -> None:
    """Once, at the end of a launch, a rank never left.

    A model under DDP was the last to hold the process group. Letting go of it with Python's lock
    held, it waited for the group's thread, which waited for that lock to let go of a broadcast's
    tensor. Held until the process leaves, the group is never let go of that way. Without
    `hold_group` this hangs within the first fifty rounds.
    """
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path)],
            cwd=ROOT,
            env=environment_of(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in ranks:
            stdout, stderr = process.communicate(timeout=90)
            # What any rank says, all hear.
            assert stdout.splitlines() == ["[False, True, True, True]", "ended"], stderr
    finally:
        for process in ranks:
            process.kill()


def test_constant_buffers_are_not_broadcast_in_every_step() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = start_accelerator(Config())
    assert accelerator.ddp_handler is not None
    assert accelerator.ddp_handler.broadcast_buffers is False


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Store]]:
    """Start the only process of a launch after so many restarts; returns the group's store."""
    launcher = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    variables = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost"}
    variables |= {"MASTER_PORT": launcher.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))

    def start(restarts: int) -> Store:
        end()
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        start_accelerator(Config())
        return _get_default_store()

    def end() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)

    yield start
    end()


def test_restarted_processes_do_not_meet_the_addresses_of_the_old_ones(
    start: Callable[[int], Store],
) -> None:
    """About half of all restarts failed: a process sought another where that had been before."""
    start(0).set("address of rank 1", "old")
    assert start(0).check(["address of rank 1"])
    assert not start(1).check(["address of rank 1"])
