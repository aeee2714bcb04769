"""Load the configuration with which a checkpoint scores proteins from any current directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from common.config import Config
from common.config_data import EmbeddingsConfig
from common.config_file import check_model_directory, keys_of, load_config
from common.inference.hub import is_hub_copy

_EMBEDDINGS, PREFILTER = "data_config.embeddings", "evaluate.scoring.prefilter"


def load_own_config(checkpoint: Path, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration of a checkpoint's training, for scoring the user's own pairs.

    Its relative paths were relative to the directory of the training. If the language model is not
    found from the current directory, every directory above the checkpoint is searched; the
    embedding cache of the directory with the language model is used if it is writable. A checkpoint
    from the hub names a cache on another machine, so the default cache is used instead.

    Args:
        checkpoint: A best_model directory, which may be in the hub's cache.
        overrides: `key.path=value` as `--set` takes them; their paths are not changed.

    Raises:
        UserError: The directory is not a checkpoint, or the configuration is not valid.
    """
    check_model_directory(checkpoint, "--checkpoint")
    config = load_config(checkpoint / "config.yaml", "evaluate", overrides)
    prefilter = config.evaluate.scoring.prefilter.checkpoint
    if prefilter is not None:
        check_model_directory(Path(prefilter), f"{PREFILTER}.checkpoint")
    settings = config.data.embeddings
    given = keys_of(overrides)
    changed = {}
    found = _find_above(settings.model_name, checkpoint)
    if found is not None and f"{_EMBEDDINGS}.model_name" not in given:
        changed["model_name"] = str(found / settings.model_name)
        cache = found / settings.cache_dir
        if os.access(cache, os.W_OK):
            changed["cache_dir"] = str(cache)
    if is_hub_copy(checkpoint):
        changed["cache_dir"] = EmbeddingsConfig().cache_dir
    if f"{_EMBEDDINGS}.cache_dir" in given:
        changed.pop("cache_dir", None)
    data = config.data.model_copy(update={"embeddings": settings.model_copy(update=changed)})
    return config.model_copy(update={"data": data})


def leave_to_prefilter(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that also apply to the configuration of the prefilter."""
    shared = [text for text in overrides if text.startswith(("data_config.", "evaluate.scoring."))]
    return [*shared, f"{PREFILTER}.checkpoint=null"]


def _find_above(model_name: str, checkpoint: Path) -> Path | None:
    """Find the nearest directory above the checkpoint in which the language model exists."""
    if Path(model_name).expanduser().is_dir():
        return None
    above = checkpoint.resolve().parents
    return next((folder for folder in above if (folder / model_name).is_dir()), None)
