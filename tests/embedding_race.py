"""Runs that start at the same moment on a fresh embedding cache.

    python -m tests.embedding_race --runs 4 --rounds 20 [--kill] [--no-flock]

Each run calls `prepare_store` for the same proteins, all started by one barrier; with `--kill` the
first one is killed at a random moment, and with `--no-flock` the file system locks no files, as NFS
and Lustre may be mounted. The others must all succeed, compute nothing twice, and
leave the cache that a run of its own leaves, to the last bit.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator

from common.config_data import EmbeddingsConfig
from common.data.embeddings import fill
from common.data.embeddings.build import prepare_store
from common.errors import UserError
from tests.same_run import assert_same_store
from tests.tiny_esm import MAX_LENGTH, SEQUENCES, record_log, save_tiny_esm

FORK = multiprocessing.get_context("fork")


def prepare(folder: Path, cache: str) -> int:
    """Prepare a cache of the folder in pieces of one batch; returns how many were computed."""
    fill.PIECE_SECONDS = 0.0
    settings = EmbeddingsConfig(
        model_name=str(folder / "esm"), cache_dir=str(folder / cache), tokens_per_batch=200
    )
    with record_log() as log:
        prepare_store(SEQUENCES, settings, MAX_LENGTH, Accelerator(cpu=True))
    return log.computed()


def run_one(folder: Path, barrier: Barrier, results: SimpleQueue[tuple[int, str]]) -> None:
    """One of the runs: puts how many sequences it computed, or the sentence it failed with."""
    barrier.wait()
    try:
        results.put((prepare(folder, "cache"), ""))
    except UserError as error:
        results.put((0, str(error)))


def refuse_flock(handle: int, operation: int) -> NoReturn:
    """What a file system without locks answers."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def race(folder: Path, runs: int, kill: bool) -> list[str]:
    """One round; returns the sentences of the runs that failed."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    barrier = FORK.Barrier(runs)
    # One each: a killed process may keep its queue locked.
    results = [FORK.SimpleQueue() for _ in range(runs)]
    children = [FORK.Process(target=run_one, args=(folder, barrier, own)) for own in results]
    for child in children:
        child.start()
    if kill:
        time.sleep(random.uniform(0.0, 0.5))
        if children[0].is_alive():
            os.kill(children[0].pid or 0, signal.SIGKILL)
    for child in children[kill:]:
        child.join(timeout=60)
    found = [own.get() for own in results[kill:]]
    failures = [sentence for _, sentence in found if sentence]
    if not failures:
        # Cleans up after a run that was killed when the others had finished.
        prepare(folder, "cache")
        assert_same_store(folder / "cache", folder / "alone")
        assert kill or sum(computed for computed, _ in found) == len(SEQUENCES), found
    return failures


def main() -> None:
    """Race and print how many runs failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.embedding_race", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--kill", action="store_true", help="kill one run in each round")
    parser.add_argument("--no-flock", action="store_true", help="as on a mount without locks")
    asked = parser.parse_args()
    if asked.no_flock:
        setattr(fcntl, "flock", refuse_flock)  # noqa: B010 (mypy knows its type)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tiny_esm(folder / "esm")
        prepare(folder, "alone")
        failures = [f for _ in range(asked.rounds) for f in race(folder, asked.runs, asked.kill)]
    counted = asked.rounds * (asked.runs - asked.kill)
    sys.stdout.write("\n".join([f"{len(failures)} of {counted} runs failed", *failures[:3], ""]))


if __name__ == "__main__":
    main()
