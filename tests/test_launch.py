"""Process groups: ranks that agree, and an end that does not hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

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
