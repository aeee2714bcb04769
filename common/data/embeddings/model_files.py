"""Finds, downloads and hashes the files of a protein language model, and reads its length limit.

No function here loads the model, which takes seconds to minutes and is not necessary if the
embedding cache is complete.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from huggingface_hub import snapshot_download

from common.config_data import EmbeddingsConfig
from common.data.embeddings.store_lock import lock_store
from common.errors import UserError
from common.files import hash_file, write_atomically

KEY = "data_config.embeddings.model_name"
CONFIG_FILE = "config.json"
# The names of weight files, in transformers' order of preference.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
SMALL_FILES = ["*.json", "*.txt", "*.model"]
HASHES_FILE = "model_hashes.json"

# Model types whose first token is not at position 0 but after the padding index.
POSITIONS_AFTER_PADDING = ("esm",)
SPECIAL_TOKENS = 2  # <cls> and <eos>


@dataclass(frozen=True)
class ModelFiles:
    """The directory of a language model, and the paths of its weight files."""

    directory: Path
    weights: tuple[Path, ...]

    def config(self) -> dict[str, Any]:
        """Read the configuration of the language model, `config.json`.

        Raises:
            UserError: The file is missing or not JSON.
        """
        path = self.directory / CONFIG_FILE
        content = _read_json(path)
        if not content:
            raise UserError(
                f"{path} is missing or damaged; set {KEY} to a complete transformers model"
            )
        return content


def locate_model(settings: EmbeddingsConfig) -> ModelFiles:
    """Find the language model: a local directory, the local hub cache, or else the hub itself.

    A downloaded model is never updated, because a newer version on the hub must not silently change
    the meaning of a configuration.

    Raises:
        UserError: The model is neither on disk nor on the hub, or has no weights.
    """
    local = Path(settings.model_name).expanduser()
    if local.is_dir():
        weights = _weight_files(local)
        if not weights:
            raise UserError(
                f"{local} contains none of the weight files {', '.join(WEIGHT_FILES)}; set {KEY} to"
                " a directory that `save_pretrained` wrote, or to a model on the Hugging Face hub"
            )
        return ModelFiles(local.absolute(), weights)
    with contextlib.suppress(OSError, ValueError):
        if cached := _snapshot(settings, "*.safetensors", offline=True):
            return cached
    return _download(settings)


def check_residue_limit(files: ModelFiles, model_name: str, max_sequence_length: int) -> None:
    """Check that a language model can read sequences of the configured maximum length.

    A model with rotary positions has no limit.

    Raises:
        UserError: `data_config.max_sequence_length` is too large.
    """
    config = files.config()
    limit = residue_limit(config)
    rotary = config.get("position_embedding_type") == "rotary" or "rope_parameters" in config
    if limit is not None and max_sequence_length > limit and not rotary:
        raise UserError(
            f"data_config.max_sequence_length is {max_sequence_length}, but {model_name} accepts at"
            f" most {limit} residues; lower max_sequence_length to {limit} (longer proteins are"
            " still embedded completely with data_config.embeddings.long: windows), or choose"
            f" another {KEY}"
        )


def residue_limit(config: dict[str, Any]) -> int | None:
    """Return the longest sequence that a model can read, in residues; None if unknown.

    ESM-2 has 1026 positions, of which 2 precede the first token (padding index 1) and 2 are used
    for <cls> and <eos>, so the limit is 1022.
    """
    positions, padding = config.get("max_position_embeddings"), config.get("pad_token_id")
    if type(positions) is not int:
        return None
    if config.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= (padding if type(padding) is int else 0) + 1
    return positions - SPECIAL_TOKENS


def hash_model(files: ModelFiles, cache_dir: Path) -> str:
    """Return one hash of the weights, configuration and tokenizer of a language model.

    The hashes of weight files are stored in `cache_dir` by path, size and time stamp, so that
    gigabytes need not be read at every start.
    """
    digest = xxhash.xxh3_128()
    for name in (CONFIG_FILE, *TOKENIZER_FILES):
        path = files.directory / name
        if path.is_file():
            digest.update(f"{name}:{hash_file(path)};".encode())
    for path in files.weights:
        digest.update(f"{path.name}:{_remembered_hash(path, cache_dir)};".encode())
    return digest.hexdigest()


def _remembered_hash(path: Path, cache_dir: Path) -> str:
    memory = cache_dir / HASHES_FILE
    real = path.resolve()
    status = real.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    match _read_json(memory).get(str(real)):
        case [*known_stamp, str(digest)] if known_stamp == stamp:
            return digest
    digest = hash_file(real)
    # If the cache directory is read-only, the weights are read at every start.
    with contextlib.suppress(UserError, OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with lock_store(cache_dir):
            for unfinished in cache_dir.glob(f".{HASHES_FILE}.*.tmp"):
                unfinished.unlink()
            before = _read_json(memory)
            known = before | {str(real): [*stamp, digest]}
            if known != before:
                write_atomically(memory, json.dumps(known, indent=1))
    return digest


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _weight_files(directory: Path) -> tuple[Path, ...]:
    """Return the weight files that transformers would load, or () if any file is missing."""
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return (directory / name,)
        index = directory / f"{name}.index.json"
        if index.is_file():
            parts = _read_json(index).get("weight_map")
            names = set(map(str, parts.values())) if isinstance(parts, dict) else set()
            paths = tuple(directory / part for part in sorted(names))
            return paths if all(path.is_file() for path in paths) else ()
    return ()


def _download(settings: EmbeddingsConfig) -> ModelFiles:
    try:
        # Many repositories contain the weights in several formats; one format is enough.
        files = _snapshot(settings, "*.safetensors") or _snapshot(settings, "*.bin")
    # The client also raises errors of its HTTP library, which have no common base class.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        revision = f" at revision '{settings.revision}'" if settings.revision else ""
        raise UserError(
            f"{KEY} '{settings.model_name}' is not a directory and cannot be downloaded from the"
            f" Hugging Face hub{revision} ({reason}); correct the name (a path is relative to the"
            " current directory), or connect to the internet once to download the model"
        ) from None
    if files is None:
        raise UserError(
            f"{KEY} '{settings.model_name}' on the Hugging Face hub is not a complete transformers"
            f" model with {CONFIG_FILE}, a tokenizer and a weight file"
            f" ({' or '.join(WEIGHT_FILES)}); choose another model"
        )
    return files


def _snapshot(settings: EmbeddingsConfig, weights: str, offline: bool = False) -> ModelFiles | None:
    """Return the local copy of a hub model, or None if incomplete; download it unless offline."""
    directory = Path(
        snapshot_download(
            settings.model_name,
            revision=settings.revision,
            allow_patterns=[*SMALL_FILES, weights],
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    )
    found = _weight_files(directory)
    has_tokenizer = any((directory / name).is_file() for name in TOKENIZER_FILES)
    complete = found and has_tokenizer and (directory / CONFIG_FILE).is_file()
    return ModelFiles(directory, found) if complete else None
