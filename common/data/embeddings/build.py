"""Opens the cache of residue states, after computing missing embeddings.

Scripts only need `prepare_store`, which reads the state of the cache, computes missing embeddings
by the language model (`fill.py`), and opens the result. If no embedding is missing, the model is
not loaded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from accelerate import Accelerator

from common.config_data import EmbeddingsConfig
from common.data.embeddings.claims import Claim, claim_locks
from common.data.embeddings.fill import (
    Cache,
    collect,
    fill_store,
    finish_store,
    in_step,
    residues_in,
)
from common.data.embeddings.model_files import (
    ModelFiles,
    check_residue_limit,
    hash_model,
    locate_model,
    residue_limit,
)
from common.data.embeddings.plan import Request, make_requests
from common.data.embeddings.shards import TRUNCATED, Shard, StoreIdentity, read_shards
from common.data.embeddings.store import EmbeddingStore, stored_hashes
from common.data.embeddings.windows import OVERLAP
from common.errors import UserError, excerpt
from common.files import name_directory
from common.run import LOGGER, OneProcess, format_event, on_main_process

__all__ = ["EmbeddingStore", "StoreIdentity", "prepare_store"]

FEW = 5  # the number of names in a message
NUCLEOTIDES = re.compile(r"[ACGTUN]{30,}", re.I)  # no long protein has only these


def prepare_store(
    sequences: Mapping[str, str],
    settings: EmbeddingsConfig,
    max_sequence_length: int,
    accelerator: Accelerator | OneProcess,
) -> EmbeddingStore:
    """Open the residue states of these proteins, computing embeddings that the cache lacks.

    Every process calls this, and all processes get the same store or the same error. The
    composition of batches, which determines the padding, changes states by about 1e-6, most of
    which disappears when states are rounded to float16.

    Args:
        sequences: The sequences by protein id, in upper or lower case.
        settings: The language model, and how and where its states are stored.
        max_sequence_length: The number of residues to which longer sequences are cut, or of the
            windows in which they are embedded, depending on `settings.long`.
        accelerator: The device, precision and processes to compute with.

    Raises:
        UserError: The model cannot be found or used, the disk is too small, or a state is not
            finite.
    """
    started = time.perf_counter()
    windows = settings.long == "windows"
    requests = make_requests(sequences, None if windows else max_sequence_length)
    cache = _find_cache(settings, max_sequence_length, accelerator)
    _warn_of_odd_sequences(requests, max_sequence_length, residue_limit(cache.files.config()))
    shards = on_main_process(accelerator, lambda: _find_complete(cache.directory, requests))
    computed = 0
    if shards is None:
        shards, computed = fill_store(cache, requests)
    store = in_step(accelerator, lambda: _open_store(cache, shards, requests))
    LOGGER.info(
        format_event(
            "embeddings_ready",
            proteins=len(requests),
            computed=computed,
            residues=residues_in(requests),
            **_describe_long(sequences, max_sequence_length, windows),
            seconds=round(time.perf_counter() - started, 1),
        )
    )
    return store


def _describe_long(
    sequences: Mapping[str, str], max_sequence_length: int, windows: bool
) -> dict[str, object]:
    """Count the sequences that were cut or embedded in windows, and list the first few names."""
    long = sorted(name for name, text in sequences.items() if len(text) > max_sequence_length)
    counts = {"truncated": 0, "in_windows": len(long)} if windows else {"truncated": len(long)}
    return {**counts, "such_as": [excerpt(name) for name in long[:FEW]]} if long else {**counts}


def _warn_of_odd_sequences(
    requests: Sequence[Request], max_sequence_length: int, limit: int | None
) -> None:
    """Warn about sequences that a language model accepts but was not trained on."""
    dna = [request.protein for request in requests if NUCLEOTIDES.fullmatch(request.residues)]
    if dna:
        fields = {"sequences": len(dna), "such_as": excerpt(min(dna))}
        LOGGER.warning(format_event("sequences_look_like_dna", **fields))
    # The language model never reads more residues at once than one window.
    lengths = [min(len(request.residues), max_sequence_length) for request in requests]
    long = [length for length in lengths if limit is not None and length > limit]
    if long:
        fields = {"sequences": len(long), "longest": max(long), "trained_up_to": limit}
        LOGGER.warning(format_event("sequences_longer_than_trained_on", **fields))


def _find_cache(
    settings: EmbeddingsConfig, max_sequence_length: int, accelerator: Accelerator | OneProcess
) -> Cache:
    """Find or download the language model, and return the cache directory of its embeddings."""
    name_directory(settings.cache_dir, "data_config.embeddings.cache_dir")

    def identify() -> tuple[ModelFiles, StoreIdentity]:
        files = locate_model(settings)
        check_residue_limit(files, settings.model_name, max_sequence_length)
        return files, _identify(files, settings, max_sequence_length)

    # Download and hash once per machine, so that the other processes only read the results.
    in_step(accelerator, lambda: identify() if accelerator.is_local_main_process else None)
    files, identity = in_step(accelerator, identify)
    if len(set(collect(accelerator, identity))) > 1:
        raise UserError(
            f"the machines of this run have different versions of {settings.model_name}; set"
            " data_config.embeddings.revision, or copy one directory of the model to all machines"
        )
    directory = Path(settings.cache_dir) / identity.directory_name
    return Cache(directory, identity, files, settings, accelerator)


def _identify(
    files: ModelFiles, settings: EmbeddingsConfig, max_sequence_length: int
) -> StoreIdentity:
    # A local model is identified by its content, so that moving it does not invalidate the cache.
    is_local = Path(settings.model_name).expanduser().is_dir()
    return StoreIdentity(
        model_name=files.directory.name if is_local else settings.model_name,
        revision=None if is_local else settings.revision,
        weights_hash=hash_model(files, Path(settings.cache_dir)),
        layer=settings.layer,
        dtype=settings.dtype,
        max_length=max_sequence_length,
        long=f"windows, overlap {OVERLAP}" if settings.long == "windows" else TRUNCATED,
    )


def _find_complete(directory: Path, requests: Sequence[Request]) -> list[Shard] | None:
    """Return the shards if no shard is damaged and no requested sequence is missing, else None."""
    shards, broken = read_shards(directory)
    if broken or not stored_hashes(shards) >= {request.sequence_hash for request in requests}:
        return None
    if claim_locks(directory):
        # A run was killed after writing its last shard. The cache may be read-only.
        with suppress(UserError), Claim(directory) as nothing:
            finish_store(directory, nothing)
    return shards


def _open_store(
    cache: Cache, shards: Sequence[Shard], requests: Sequence[Request]
) -> EmbeddingStore:
    hashes = {request.protein: request.sequence_hash for request in requests}
    try:
        identity = cache.identity
        return EmbeddingStore(shards, identity.dtype, hashes, identity.weights_hash)
    except (KeyError, OSError):
        raise UserError(
            f"{cache.directory} lacks embeddings that were just found or computed; set"
            " data_config.embeddings.cache_dir to a directory that all machines of the run share,"
            " and do not delete files there during the run"
        ) from None
