"""Cache the scores of slow baselines on disk, under a digest of everything that affects scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import xxhash

from common.evaluation.networks import FloatArray
from common.files import explain_disk_errors, write_atomically

_CHECKSUM_BYTES = 16


def digest_of(parts: Iterable[object]) -> str:
    """Compute a digest of several values: arrays by their bytes, other values by their text."""
    digest = xxhash.xxh3_128()
    for part in parts:
        content = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(f"{type(part).__name__} {len(content)} ".encode() + content)
    return digest.hexdigest()


def remember_scores(file: Path, count: int, compute: Callable[[], FloatArray]) -> FloatArray:
    """Read (count,) scores from a cache file, or compute and write the scores if this fails.

    Raises:
        UserError: The file cannot be written.
    """
    found = _read(file, count)
    if found is not None:
        return found
    scores = compute()
    content = scores.astype(np.float64).tobytes()
    with explain_disk_errors(file, len(content)):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, xxhash.xxh3_128_digest(content) + content)
    return scores


def _read(file: Path, count: int) -> FloatArray | None:
    if not file.is_file():
        return None
    content = file.read_bytes()
    checksum, values = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    if len(values) != 8 * count or xxhash.xxh3_128_digest(values) != checksum:
        return None
    return np.frombuffer(values, np.float64)
