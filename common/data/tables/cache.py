"""Caches parsed text files on disk as datasets, identified by a hash of the file's content."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.table import InMemoryTable

from common.data.tables.text import unreadable
from common.files import hash_file, new_directory

# Part of the cache key: increase this number when the parser gives another result for a file.
_CACHE_VERSION = 2
_CHECKSUM_FILE = "checksum"


def cached_dataset(
    kind: str, path: Path, cache_dir: Path, parse: Callable[[Path], pa.Table]
) -> datasets.Dataset:
    """Return the content of a file as a dataset, from the cache if it was parsed before.

    Several processes may call this at the same time: each writes a separate directory, and the
    first complete directory is kept.

    Args:
        kind: The kind of content, a part of the cache key.
        path: The file; changed content has another key.
        cache_dir: The directory of the cache.
        parse: Parses the file; called only if the content is not in the cache.

    Raises:
        UserError: The file cannot be read or parsed, or the cache cannot be written.
    """
    try:
        digest = hash_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    folder = cache_dir / f"{kind}-v{_CACHE_VERSION}-{digest}"
    dataset = _load(folder)
    if dataset is None:
        dataset = datasets.Dataset(InMemoryTable(parse(path)), fingerprint=digest)
        _store(dataset, folder)
    return dataset


def _load(folder: Path) -> datasets.Dataset | None:
    if not folder.is_dir():
        return None
    try:
        # Arrow does not check its files: a flipped bit changes rows or crashes the process.
        if (folder / _CHECKSUM_FILE).read_text() == _checksum(folder):
            return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        # Missing files, and datasets of another library version, are treated as damaged.
        pass
    shutil.rmtree(folder, ignore_errors=True)  # a new dataset takes its place
    return None


def _checksum(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.name != _CHECKSUM_FILE)
    return " ".join(hash_file(path) for path in files)


def _store(dataset: datasets.Dataset, folder: Path) -> None:
    remedy = "set data_config.benchmark.cache_dir to another directory"
    with new_directory(folder, replace=False, remedy=remedy) as temporary:
        with _without_progress_bars():
            dataset.save_to_disk(str(temporary))
        (temporary / _CHECKSUM_FILE).write_text(_checksum(temporary))


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    were_disabled = datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            datasets.utils.enable_progress_bars()
