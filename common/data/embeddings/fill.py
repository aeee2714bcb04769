"""Computes missing residue states and stores them, sharing the work with concurrent runs.

A run works in pieces: it claims some batches, computes them, and stores them as one shard per
process. The store is locked only to read its state, to claim sequences and to commit shards, which
takes milliseconds; so runs that need different proteins do not wait for each other, and runs that
need the same proteins share the work. If other runs have claimed all missing sequences, a run waits
for these runs. If a run dies, its claim becomes void, and its uncommitted sequences are missing
again.

Batches are planned from the sequences that are neither stored nor claimed, and are stored whole. So
runs that request the same proteins compute the same batches, whichever run computes a batch and
however often runs are killed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from common.config_data import EmbeddingsConfig
from common.data.embeddings.claims import Claim
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import ModelFiles
from common.data.embeddings.plan import Request, plan_batches
from common.data.embeddings.shards import (
    Row,
    Shard,
    ShardWriter,
    StoreIdentity,
    create_store_directory,
    discard_broken_shards,
    write_dataset_files,
)
from common.data.embeddings.store import stored_hashes
from common.data.embeddings.store_lock import lock_store
from common.data.embeddings.windows import states_of_long
from common.errors import UserError
from common.long_work import LongWork
from common.memory import explain_out_of_memory
from common.ranks import OneProcess, check_shared
from common.run import LOGGER, format_event, on_main_process

# On a CPU, padding costs time, and small batches already use all cores: 1,024 tokens are twice as
# fast as 8,192 (`benchmarks/embedding.py`). A GPU needs larger batches (not measured yet).
CPU_TOKENS, GPU_TOKENS = 1024, 16384
# A killed run loses about this much work at most.
PIECE_SECONDS = 60.0
# Well below the timeout of collective operations, in which the other processes wait.
WAIT_SECONDS, LONGEST_PAUSE = 60.0, 5.0
# Ids, offsets and the file format take about this many bytes per protein, besides the states.
BYTES_PER_ROW = 256

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cache:
    """The directory of embeddings that a run uses, with all settings for computing them."""

    directory: Path
    identity: StoreIdentity
    files: ModelFiles
    settings: EmbeddingsConfig
    accelerator: Accelerator | OneProcess

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored residue states."""
        dtype: torch.dtype = getattr(torch, self.identity.dtype)
        return dtype

    @property
    def tokens_per_batch(self) -> int:
        """The maximum number of tokens per batch: as configured, or the device's default."""
        if self.settings.tokens_per_batch != "auto":
            return self.settings.tokens_per_batch
        return GPU_TOKENS if self.accelerator.device.type == "cuda" else CPU_TOKENS


@dataclass(frozen=True)
class Piece:
    """A piece of embedding work: the batches of sequences that a run computes next.

    Attributes:
        owner: The owner of the claim on these sequences.
        batches: The sequence hashes of each batch; empty while other runs have claimed all missing
            sequences.
        residues_left: The residues that the store lacks, including this piece; 0 if complete.
    """

    owner: str
    batches: list[list[str]]
    residues_left: int


def fill_store(cache: Cache, requests: Sequence[Request]) -> tuple[list[Shard], int]:
    """Compute all requested embeddings that the store lacks, including those of damaged shards.

    Every process calls this.

    Returns:
        The shards of the completed store, and the number of sequences that this run computed.

    Raises:
        UserError: The disk is too small or may not be written, or a state cannot be stored.
    """
    accelerator, directory = cache.accelerator, cache.directory
    on_main_process(accelerator, lambda: create_store_directory(directory, cache.identity))
    check_shared(accelerator, directory.parent, "data_config.embeddings.cache_dir")
    with Claim(directory) as claim:
        # Equal sequences are computed once, for the first protein with that sequence.
        wanted = {request.sequence_hash: request for request in reversed(requests)}
        foreman = Foreman(cache, wanted, claim)
        missing = on_main_process(accelerator, foreman.look)
        computed = _compute(cache, foreman, missing) if missing else 0
        shards = on_main_process(accelerator, partial(finish_store, directory, claim))
    return shards, computed


def finish_store(directory: Path, claim: Claim) -> list[Shard]:
    """Remove files of dead runs, write the dataset's metadata, and return the store's shards."""
    with lock_store(directory):
        shards = _clean_up(directory, claim, claim.others())
        write_dataset_files(directory, shards)
    return shards


def in_step(accelerator: Accelerator | OneProcess, action: Callable[[], Result]) -> Result:
    """Run an action on every process; if any fails with a `UserError`, raise it on all processes.

    A process that stopped alone would leave the other processes waiting for ever.
    """
    outcome: list[Result] = []
    error = None
    try:
        outcome.append(action())
    except UserError as caught:
        error = str(caught)
    errors = [text for text in collect(accelerator, error) if text is not None]
    if errors:
        raise UserError(errors[0])
    return outcome[0]


def collect(accelerator: Accelerator | OneProcess, value: Result) -> list[Result]:
    """Gather one value from each process; a single process returns only its own value."""
    if accelerator.num_processes == 1:
        return [value]
    values: list[Result] = gather_object([value])
    return values


class Foreman:
    """Decides, in the main process, which sequences the run computes next.

    Args:
        cache: The store.
        wanted: The requests of the run, by sequence hash.
        claim: The claim of the run.
    """

    def __init__(self, cache: Cache, wanted: Mapping[str, Request], claim: Claim) -> None:
        self.wanted = wanted
        self._cache = cache
        self._claim = claim
        self._missing = set(wanted)
        self._claimed = 0  # the number of batches in the current piece
        self._batches_each = 1
        self._began = time.monotonic()

    def look(self) -> set[str]:
        """Remove broken files from the store, and return the hashes of missing sequences."""
        with lock_store(self._cache.directory):
            self._survey(self._claim.others())
        return self._missing

    def next_piece(self, model: LanguageModel, patience: float) -> Piece:
        """Claim the next piece of work.

        Args:
            model: The language model.
            patience: Seconds to wait for other runs that have claimed all missing sequences.
        """
        self._adapt_size()
        started = time.monotonic()
        while True:
            piece = self._take(model)
            self._began = time.monotonic()
            waited = self._began - started
            if piece.batches or not piece.residues_left or waited >= patience:
                return piece
            time.sleep(min(LONGEST_PAUSE, 0.05 + waited / 4))

    def _adapt_size(self) -> None:
        """Double or halve the size of pieces, to keep their duration near `PIECE_SECONDS`."""
        if self._claimed:
            seconds = time.monotonic() - self._began
            if seconds < PIECE_SECONDS / 2:
                self._batches_each *= 2
            elif seconds > PIECE_SECONDS:
                self._batches_each = max(1, self._batches_each // 2)

    def _take(self, model: LanguageModel) -> Piece:
        with lock_store(self._cache.directory):
            others = self._claim.others()
            claimed = set().union(*others.values())
            # If other runs have claimed all missing sequences, the shards need not be read again.
            if not self._missing <= claimed:
                self._survey(others)
            free = self._requests(self._missing - claimed)
            tokens, window = self._cache.tokens_per_batch, self._cache.identity.max_length
            plan = plan_batches(free, tokens, model.special_tokens, window)
            batches = [[r.sequence_hash for r in batch] for batch in self._cut(plan, model.dim)]
            if batches or self._claimed:
                self._claim.replace(key for batch in batches for key in batch)
        self._claimed = len(batches)
        return Piece(self._claim.owner, batches, residues_in(self._requests(self._missing)))

    def _survey(self, others: Mapping[str, set[str]]) -> None:
        shards = _clean_up(self._cache.directory, self._claim, others)
        self._missing = self.wanted.keys() - stored_hashes(shards)

    def _cut(self, plan: Sequence[Sequence[Request]], dim: int) -> Sequence[Sequence[Request]]:
        """Return the first batches of a plan, as many as fit into one shard per process."""
        processes = self._cache.accelerator.num_processes
        residues = np.cumsum([residues_in(batch) for batch in plan])
        shard_bytes = self._cache.settings.shard_mib * 2**20
        most = processes * shard_bytes // (dim * self._cache.dtype.itemsize)
        fitting = int(np.searchsorted(residues, most, side="right"))
        return plan[: max(processes, min(fitting, processes * self._batches_each))]

    def _requests(self, hashes: set[str]) -> list[Request]:
        return [self.wanted[key] for key in hashes]


def _clean_up(directory: Path, claim: Claim, others: Mapping[str, set[str]]) -> list[Shard]:
    shards, broken = discard_broken_shards(directory, {claim.owner, *others})
    for path, reason in broken.items():
        LOGGER.warning(format_event("embedding_shard_rebuilt", shard=path.name, reason=reason))
    return shards


def _compute(cache: Cache, foreman: Foreman, hashes: set[str]) -> int:
    """Compute pieces until the store is complete; return the number of computed sequences."""
    accelerator = cache.accelerator
    missing = [foreman.wanted[key] for key in hashes]
    model = in_step(
        accelerator,
        lambda: LanguageModel.load(cache.files, cache.identity.layer, accelerator.device),
    )
    on_main_process(accelerator, lambda: _check_space(cache, missing, model.dim))
    total, computed, patience = residues_in(missing), 0, 0.0
    with LongWork("embedding", total, "residues", accelerator.is_main_process) as work:
        while True:
            piece = on_main_process(accelerator, partial(foreman.next_piece, model, patience))
            # The progress includes the work of other processes and other runs.
            work.advance(max(0, total - piece.residues_left - work.done))
            if not piece.residues_left:
                return computed
            if piece.batches:
                in_step(accelerator, partial(_embed, cache, foreman.wanted, model, piece, work))
                computed += sum(map(len, piece.batches))
            else:
                LOGGER.info(format_event("embeddings_waiting", for_other_run_in=cache.directory))
            patience = 0.0 if piece.batches else WAIT_SECONDS


def _check_space(cache: Cache, requests: Sequence[Request], dim: int) -> None:
    values = residues_in(requests) * dim * cache.dtype.itemsize
    needed = values + len(requests) * BYTES_PER_ROW
    free = shutil.disk_usage(cache.directory).free
    if needed > free:
        raise UserError(
            f"the embeddings of {len(requests)} proteins need {needed} bytes in {cache.directory},"
            f" but only {free} bytes are free; free some space or choose another"
            " data_config.embeddings.cache_dir"
        )


def _embed(
    cache: Cache,
    wanted: Mapping[str, Request],
    model: LanguageModel,
    piece: Piece,
    work: LongWork,
) -> None:
    """Compute and store the batches of a piece that belong to this process."""
    rank, processes = cache.accelerator.process_index, cache.accelerator.num_processes
    with ShardWriter(cache.directory, piece.owner) as shard:
        for hashes in piece.batches[rank::processes]:
            batch = [wanted[key] for key in hashes]
            shard.add(_embed_batch(cache, model, batch))
            work.advance(residues_in(batch))


def residues_in(requests: Sequence[Request]) -> int:
    """Return the total number of residues of these requests."""
    return sum(len(request.residues) for request in requests)


def _embed_batch(cache: Cache, model: LanguageModel, batch: Sequence[Request]) -> list[Row]:
    lengths = np.array([len(request.residues) for request in batch])
    remedy = "lower data_config.embeddings.tokens_per_batch or data_config.max_sequence_length"
    with explain_out_of_memory("embedding", lengths, remedy):
        stored = torch.cat(_states_of(cache, model, batch)).to(cache.dtype)
        finite = bool(stored.isfinite().all())
    parts = np.split(stored.cpu().numpy(), np.cumsum(lengths)[:-1])
    rows = [
        Row(request.protein, request.sequence_hash, values)
        for request, values in zip(batch, parts, strict=True)
    ]
    if not finite:
        spoilt = next(row.protein for row in rows if not np.isfinite(row.states).all())
        raise UserError(
            f"the language model's states of {spoilt} are not finite in {rows[0].states.dtype}; set"
            " data_config.embeddings.dtype to float32, or check the model if float32 is already set"
        )
    return rows


def _states_of(cache: Cache, model: LanguageModel, batch: Sequence[Request]) -> list[torch.Tensor]:
    window = cache.identity.max_length
    texts = [request.residues for request in batch]
    if len(texts[0]) <= window:
        return model.residue_states(texts)
    return [states_of_long(model, text, window, cache.tokens_per_batch) for text in texts]
