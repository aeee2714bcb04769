"""Runs that start at the same moment on a fresh embedding cache.

    python -m tests.embedding_race --runs 4 --rounds 20 [--kill] [--no-flock]

Each run calls `prepare_store` for the same proteins, all at the same moment; with `--kill` the
first one is killed at a random moment after that, and with `--no-flock` the file system locks no
files, as NFS and Lustre may be mounted. The others must all succeed, compute nothing twice, and
leave the cache that a run of its own leaves, to the last bit. A run that hangs prints where it does
and counts as failed.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import fcntl
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import Accelerator

from common.config_data import EmbeddingsConfig
from common.data import lock_renewal
from common.data.embeddings import fill
from common.data.embeddings.build import prepare_store
from common.errors import UserError
from tests.same_run import assert_same_store
from tests.tiny_esm import MAX_LENGTH, SEQUENCES, record_log, save_tiny_esm

FORK = multiprocessing.get_context("fork")
PATIENCE = 400.0


def prepare(folder: Path, cache: str) -> int:
    """Prepare a cache of the folder in pieces of one batch; returns how many were computed."""
    fill.PIECE_SECONDS = 0.0
    lock_renewal.RENEW_SECONDS, lock_renewal.SILENCE_SECONDS = 0.5, 20.0
    settings = EmbeddingsConfig(
        model_name=str(folder / "esm"), cache_dir=str(folder / cache), tokens_per_batch=200
    )
    with record_log() as log:
        prepare_store(SEQUENCES, settings, MAX_LENGTH, Accelerator(cpu=True))
    return log.computed()


def run_one(folder: Path, gate: tuple[int, int], answer: Connection) -> None:
    """One of the runs: sends how many sequences it computed, or the sentence it failed with."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    opened, closing = gate
    os.close(closing)
    os.read(opened, 1)  # returns when nobody can write any more
    try:
        answer.send((prepare(folder, "cache"), ""))
    except UserError as error:
        answer.send((0, str(error)))


def refuse_flock(handle: int, operation: int) -> NoReturn:
    """What a file system without locks answers."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def race(folder: Path, runs: int, kill_within: float) -> list[str]:
    """One round; returns the sentences of the runs that failed.

    Args:
        folder: Where the language model and the caches are.
        runs: How many start.
        kill_within: Seconds within which the first one is killed; 0 to let it live.
    """
    shutil.rmtree(folder / "cache", ignore_errors=True)
    # A process that is killed in a barrier of `multiprocessing` leaves the others waiting there.
    gate = os.pipe()
    children, pipes = [], []
    for _ in range(runs):
        pipe, own = FORK.Pipe(duplex=False)
        child = FORK.Process(target=run_one, args=(folder, gate, own))
        child.start()
        own.close()
        children.append(child)
        pipes.append(pipe)
    os.close(gate[1])
    if kill_within:
        time.sleep(random.uniform(0.0, kill_within))
        children[0].kill()
    found = [answer_of(pipe) for pipe in pipes]
    for child in children:
        child.join()
    os.close(gate[0])
    found = found[1:] if kill_within else found
    failures = [sentence for _, sentence in found if sentence]
    if not failures:
        # Cleans up after a run that was killed when the others had finished.
        prepare(folder, "cache")
        assert_same_store(folder / "cache", folder / "alone")
        assert kill_within or sum(computed for computed, _ in found) == len(SEQUENCES), found
    return failures


def answer_of(pipe: Connection) -> tuple[int, str]:
    """What a run has sent."""
    with pipe:
        try:
            answer: tuple[int, str] = pipe.recv()
        except EOFError:
            return 0, "it hung or broke"
    return answer


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
        began = time.monotonic()
        prepare(folder, "alone")
        life = time.monotonic() - began if asked.kill else 0.0
        failures = [f for _ in range(asked.rounds) for f in race(folder, asked.runs, life)]
    counted = asked.rounds * (asked.runs - asked.kill)
    sys.stdout.write("\n".join([f"{len(failures)} of {counted} runs failed", *failures[:3], ""]))


if __name__ == "__main__":
    main()
