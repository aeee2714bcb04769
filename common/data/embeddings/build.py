"""Building the cache of residue states: only what is missing, shared over all processes.

`prepare_store` is all that a script needs. It looks at what the cache holds, lets the language
model compute the rest, and opens the result. A run that is killed leaves complete shards behind,
and the next one goes on from there. With an unchanged cache the model is not even loaded.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from common.config import EmbeddingsConfig
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import (
    ModelFiles,
    check_residue_limit,
    hash_model,
    locate_model,
)
from common.data.embeddings.plan import PLAN_FILE, Request, make_requests, read_plan, settle_plan
from common.data.embeddings.shards import (
    Row,
    Shard,
    ShardWriter,
    StoreIdentity,
    create_store_directory,
    discard_broken_shards,
    read_shards,
    write_dataset_files,
)
from common.data.embeddings.store import EmbeddingStore, stored_hashes
from common.errors import UserError, excerpt
from common.memory import explain_out_of_memory
from common.run import LOGGER, format_event, on_main_process

__all__ = ["EmbeddingStore", "StoreIdentity", "prepare_store"]

LOCK_FILE = "build.lock"
# Well below the minutes after which waiting processes give up on a collective.
LOCK_SECONDS = 20.0
# Padding costs a CPU what it costs to compute, and small batches fill its cores already: twice as
# fast as 8,192 (`benchmarks/embedding.py`). A GPU wants to be filled; not measured on one yet.
CPU_TOKENS, GPU_TOKENS = 1024, 16384
# Ids, offsets and the file format beside the values, per protein.
BYTES_PER_ROW = 256
NUCLEOTIDES = re.compile(r"[ACGTUN]{30,}", re.I)  # no protein so long has no other residue

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Cache:
    """The one store directory that a run works with, and how to fill it."""

    directory: Path
    identity: StoreIdentity
    files: ModelFiles
    settings: EmbeddingsConfig
    accelerator: Accelerator

    @property
    def tokens_per_batch(self) -> int:
        """The configured budget, or what was measured to be best on such a device."""
        if self.settings.tokens_per_batch != "auto":
            return self.settings.tokens_per_batch
        return GPU_TOKENS if self.accelerator.device.type == "cuda" else CPU_TOKENS


@dataclass(frozen=True)
class _Survey:
    """What a cache holds of what is wanted."""

    shards: list[Shard]
    missing: set[str]
    damaged: bool


def prepare_store(
    sequences: Mapping[str, str],
    settings: EmbeddingsConfig,
    max_sequence_length: int,
    accelerator: Accelerator,
) -> EmbeddingStore:
    """Open the residue states of these proteins, computing those that the cache lacks.

    Every process calls this; all of them get the same store or the same error. Batch composition
    changes states by about 1e-6 (it decides the padding), most of which float16 hides.

    Args:
        sequences: Protein id to sequence, in any case of letters.
        settings: The model, and where and how its states are stored.
        max_sequence_length: Longer sequences are cut to their first so many residues.
        accelerator: Device, precision and processes to compute with.

    Raises:
        UserError: The model cannot be had or used, the disk is too small, a state is not finite.
    """
    started = time.perf_counter()
    _warn_of_nucleotides(sequences)
    requests = make_requests(sequences, max_sequence_length)
    cache = _find_cache(settings, max_sequence_length, accelerator)
    survey = on_main_process(accelerator, lambda: _survey(cache.directory, requests))
    computed = 0
    if survey.missing or survey.damaged:
        survey, computed = _complete(cache, requests)
    else:
        on_main_process(accelerator, lambda: _tidy(cache.directory, requests))
    store = _in_step(accelerator, lambda: _open_store(cache, survey.shards, requests))
    LOGGER.info(
        format_event(
            "embeddings_ready",
            proteins=len(requests),
            computed=computed,
            residues=sum(len(request.residues) for request in requests),
            truncated=sum(len(text) > max_sequence_length for text in sequences.values()),
            seconds=round(time.perf_counter() - started, 1),
        )
    )
    return store


def _warn_of_nucleotides(sequences: Mapping[str, str]) -> None:
    """Say which sequences are hardly of proteins: a model takes their letters for residues."""
    found = [name for name, text in sequences.items() if NUCLEOTIDES.fullmatch(text)]
    if found:
        LOGGER.warning(
            format_event(
                "sequences_look_like_dna", sequences=len(found), such_as=excerpt(min(found))
            )
        )


def _find_cache(
    settings: EmbeddingsConfig, max_sequence_length: int, accelerator: Accelerator
) -> _Cache:
    """Locate the model (downloading it if need be) and the directory that belongs to it."""

    def identify() -> tuple[ModelFiles, StoreIdentity]:
        files = locate_model(settings)
        check_residue_limit(files, settings.model_name, max_sequence_length)
        return files, _identify(files, settings, max_sequence_length)

    # Download and hash once per machine; then the others find both done.
    _in_step(accelerator, lambda: identify() if accelerator.is_local_main_process else None)
    files, identity = _in_step(accelerator, identify)
    if len(set(gather_object([identity]))) > 1:
        raise UserError(
            f"the machines of this run hold different versions of {settings.model_name};"
            " set data_config.embeddings.revision, or copy one directory to all of them"
        )
    directory = Path(settings.cache_dir) / identity.directory_name
    return _Cache(directory, identity, files, settings, accelerator)


def _identify(
    files: ModelFiles, settings: EmbeddingsConfig, max_sequence_length: int
) -> StoreIdentity:
    # A local model is known by its content, so that it may move without its cache being lost.
    is_local = Path(settings.model_name).expanduser().is_dir()
    return StoreIdentity(
        model_name=files.directory.name if is_local else settings.model_name,
        revision=None if is_local else settings.revision,
        weights_hash=hash_model(files, Path(settings.cache_dir)),
        layer=settings.layer,
        dtype=settings.dtype,
        max_length=max_sequence_length,
    )


def _survey(directory: Path, requests: Sequence[Request]) -> _Survey:
    shards, broken = read_shards(directory)
    missing = {request.sequence_hash for request in requests} - stored_hashes(shards)
    return _Survey(shards, missing, bool(broken))


def _complete(cache: _Cache, requests: Sequence[Request]) -> tuple[_Survey, int]:
    """Throw out damaged shards and compute what is missing, as the only run that does.

    Returns:
        The completed cache, and how many sequences were computed.
    """
    accelerator = cache.accelerator
    on_main_process(accelerator, lambda: create_store_directory(cache.directory, cache.identity))
    with _build_lock(cache):
        # Another run may have computed some of it while this one waited.
        missing = on_main_process(accelerator, lambda: _clean_up(cache.directory, requests)).missing
        if missing:
            # Identical sequences are computed once, for the first protein that has them.
            wanted = {request.sequence_hash: request for request in reversed(requests)}
            _compute(cache, wanted, missing)
        survey = on_main_process(accelerator, lambda: _finish(cache.directory, requests))
    return survey, len(missing)


@contextmanager
def _build_lock(cache: _Cache) -> Iterator[None]:
    """Hold the store's lock on rank 0; the kernel frees it however the process ends."""
    lock = FileLock(cache.directory / LOCK_FILE)
    seconds = 0.0
    # Short waits, repeated: the other processes wait in the broadcast, which has a time limit.
    while not on_main_process(cache.accelerator, partial(_try_lock, lock, seconds)):
        if not seconds:
            LOGGER.info(format_event("embeddings_waiting", for_other_run_in=cache.directory))
        seconds = LOCK_SECONDS
    try:
        yield
    finally:
        lock.release()


def _try_lock(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        raise UserError(
            f"cannot lock the embedding cache with {lock.lock_file}: {error.strerror};"
            " permit writing there, or choose another data_config.embeddings.cache_dir"
        ) from None
    return True


def _clean_up(directory: Path, requests: Sequence[Request]) -> _Survey:
    for path, reason in discard_broken_shards(directory).items():
        LOGGER.warning(format_event("embedding_shard_rebuilt", shard=path.name, reason=reason))
    return _survey(directory, requests)


def _finish(directory: Path, requests: Sequence[Request]) -> _Survey:
    survey = _survey(directory, requests)
    write_dataset_files(directory, survey.shards)
    planned = {key for batch in read_plan(directory / PLAN_FILE) for key in batch}
    if planned <= stored_hashes(survey.shards):
        (directory / PLAN_FILE).unlink(missing_ok=True)
    return survey


def _tidy(directory: Path, requests: Sequence[Request]) -> None:
    """Bring to its end what a run left that was cut off after its last shard."""
    if not (directory / PLAN_FILE).exists():
        return
    lock = FileLock(directory / LOCK_FILE)
    # Another run may be embedding what this one does not need, or the cache be read-only.
    with suppress(UserError):
        if not _try_lock(lock, 0.0):
            return
        try:
            _clean_up(directory, requests)
            _finish(directory, requests)
        finally:
            lock.release()


def _open_store(
    cache: _Cache, shards: Sequence[Shard], requests: Sequence[Request]
) -> EmbeddingStore:
    hashes = {request.protein: request.sequence_hash for request in requests}
    try:
        identity = cache.identity
        return EmbeddingStore(shards, identity.dtype, hashes, identity.weights_hash)
    except (KeyError, OSError):
        raise UserError(
            f"{cache.directory} lacks embeddings that were just found or computed;"
            " data_config.embeddings.cache_dir must be one directory that all machines of the"
            " run share, and nobody may empty it meanwhile"
        ) from None


def _compute(cache: _Cache, wanted: Mapping[str, Request], missing: set[str]) -> None:
    """Compute and store the states that are missing, each process its share of the batches.

    Args:
        cache: The store, whose lock is held.
        wanted: What the run asks for, by sequence hash.
        missing: Which of it the store lacks.
    """
    accelerator = cache.accelerator
    model = _in_step(
        accelerator,
        lambda: LanguageModel.load(cache.files, cache.identity.layer, accelerator.device),
    )
    absent = [request for key, request in wanted.items() if key in missing]
    on_main_process(accelerator, lambda: _check_space(cache, absent, model.dim))
    file = cache.directory / PLAN_FILE
    plan = on_main_process(
        accelerator,
        partial(settle_plan, file, wanted, missing, cache.tokens_per_batch, model.special_tokens),
    )
    batches = [[wanted[key] for key in batch] for batch in plan]
    own = batches[accelerator.process_index :: accelerator.num_processes]
    _in_step(accelerator, lambda: _embed(cache, model, own, missing))


def _check_space(cache: _Cache, requests: Sequence[Request], dim: int) -> None:
    value_bytes = torch.finfo(getattr(torch, cache.identity.dtype)).bits // 8
    residues = sum(len(request.residues) for request in requests)
    needed = residues * dim * value_bytes + len(requests) * BYTES_PER_ROW
    free = shutil.disk_usage(cache.directory).free
    if needed > free:
        raise UserError(
            f"the embeddings of {len(requests)} proteins need {needed} bytes in {cache.directory},"
            f" where {free} are free; make room or choose another data_config.embeddings.cache_dir"
        )


def _embed(
    cache: _Cache, model: LanguageModel, batches: Sequence[Sequence[Request]], missing: set[str]
) -> None:
    max_bytes = cache.settings.shard_mib * 2**20
    with ShardWriter(cache.directory, max_bytes) as writer, _progress(cache, batches) as bar:
        proteins = 0
        for batch in batches:
            rows = _embed_batch(model, batch, getattr(torch, cache.identity.dtype))
            writer.add([row for row in rows if row.sequence_hash in missing])
            proteins += len(batch)
            bar.set_postfix(proteins=proteins, refresh=False)
            bar.update(sum(len(request.residues) for request in batch))


def _progress(cache: _Cache, batches: Sequence[Sequence[Request]]) -> tqdm:
    """A bar that counts residues: proteins differ too much in length to tell the time left."""
    processes = cache.accelerator.num_processes
    return tqdm(
        total=sum(len(request.residues) for batch in batches for request in batch),
        desc="embedding" if processes == 1 else f"embedding (1 of {processes} processes)",
        unit="residue",
        unit_scale=True,
        disable=None if cache.accelerator.is_main_process else True,
    )


def _embed_batch(model: LanguageModel, batch: Sequence[Request], dtype: torch.dtype) -> list[Row]:
    lengths = np.array([len(request.residues) for request in batch])
    remedy = "lower data_config.embeddings.tokens_per_batch or data_config.max_sequence_length"
    with explain_out_of_memory("embedding", lengths, remedy):
        states = model.residue_states([request.residues for request in batch])
        stored = torch.cat(states).to(dtype)
        finite = bool(stored.isfinite().all())
    if not finite:
        _refuse_not_finite(batch, states, dtype)
    values = stored.cpu().numpy()
    rows, first = [], 0
    for request in batch:
        end = first + len(request.residues)
        rows.append(Row(request.protein, request.sequence_hash, values[first:end]))
        first = end
    return rows


def _refuse_not_finite(
    batch: Sequence[Request], states: Sequence[Tensor], dtype: torch.dtype
) -> NoReturn:
    for request, state in zip(batch, states, strict=True):
        if not state.isfinite().all():
            raise UserError(
                f"the language model gives states of {request.protein} that are not finite;"
                " check the model, or launch without mixed precision"
            )
        if not state.to(dtype).isfinite().all():
            raise UserError(
                f"the states of {request.protein} are beyond the range of {dtype};"
                " set data_config.embeddings.dtype to float32"
            )
    raise AssertionError("all states are finite")


def _in_step(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """Let every process act, then raise the first one's `UserError` on all of them.

    A process that stopped on its own would leave the others waiting for it.
    """
    outcome: list[Result] = []
    error = None
    try:
        outcome.append(action())
    except UserError as caught:
        error = str(caught)
    errors = [text for text in gather_object([error]) if text is not None]
    if errors:
        raise UserError(errors[0])
    return outcome[0]
