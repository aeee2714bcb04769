"""Writes and checks the files of the embedding cache: Arrow shards with sidecar files.

One directory contains the residue states of one `StoreIdentity` and is a Hugging Face dataset
(opened by `datasets.load_from_disk`) with the columns `id`, `sequence_hash`, `length` and
`embedding` (residues x dim in the store's dtype, C order). Every shard `data-{checksum}.arrow` has
a sidecar `data-{checksum}.json`, which is written last: a shard without a sidecar is incomplete.
Files are committed and deleted under the lock of the directory (`lock_store`); readers need no
lock.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from common.config_data import Layer
from common.data.embeddings.store_lock import REMEDY, lock_store
from common.errors import UserError
from common.files import explain_disk_errors, hash_file, write_atomically

Embedding = NDArray[np.floating[Any]]

TRUNCATED = "truncate"

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "sequence_hash": pa.string(),
        "length": pa.int32(),
        "embedding": pa.large_binary(),
    }
)


@dataclass(frozen=True)
class StoreIdentity:
    """The settings that determine the embeddings; different settings have separate stores.

    Attributes:
        model_name: The hub name, or the last part of a local directory's path.
        revision: The configured revision on the hub.
        weights_hash: A hash of the model's weights, configuration and tokenizer.
        layer: The index into the hidden states; -1 is the last, `thirds` stands for three layers.
        dtype: `float16` or `float32`.
        max_length: The maximum number of residues that the model reads at once: the length to
            which sequences are cut, or the length of a window.
        long: How longer sequences are handled, including the overlap of windows.
    """

    model_name: str
    revision: str | None
    weights_hash: str
    layer: Layer
    dtype: str
    max_length: int
    long: str = TRUNCATED

    @property
    def directory_name(self) -> str:
        """The name of the store's directory: the model's name and a hash of all attributes."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.model_name).strip("-").lower()[-48:]
        facts = asdict(self)
        if self.long == TRUNCATED:  # Stores from before windows were introduced keep their names.
            del facts["long"]
        key = xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())
        return f"{slug}-{key}"


@dataclass(frozen=True)
class Shard:
    """A complete shard file of the embedding cache, with the facts recorded in its sidecar."""

    path: Path
    rows: int
    bytes: int
    checksum: str
    mtime_ns: int
    dim: int

    def save_sidecar(self) -> None:
        """Write the sidecar file, which makes the shard part of the store."""
        facts = {key: value for key, value in asdict(self).items() if key != "path"}
        content = {**facts, "seal": _seal(facts)}
        write_atomically(self.path.with_suffix(".json"), json.dumps(content, indent=1))

    @classmethod
    def from_sidecar(cls, path: Path) -> Self:
        """Read the sidecar file of the shard at `path`.

        Raises:
            OSError: The sidecar cannot be read.
            ValueError: The sidecar differs from what `save_sidecar` wrote. With a changed `dim`,
                states would silently be assigned to the wrong residues.
        """
        content = json.loads(path.with_suffix(".json").read_bytes())
        if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
            raise ValueError("the sidecar was changed after it was written")
        return cls(path=path, **content)


def _seal(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


@dataclass(frozen=True)
class Row:
    """A row of the embedding cache: the residue states (length, dim) of one protein."""

    protein: str
    sequence_hash: str
    states: Embedding


class ShardWriter:
    """Writes one shard: a context manager that completes the shard on exit, even after an error.

    Rows are written to a temporary file immediately, so only one batch is in memory. If no rows are
    added, no shard is written.

    Args:
        directory: The directory of the store, which must exist.
        owner: The owner in the temporary file's name; the file is kept while the owner has a claim.
    """

    def __init__(self, directory: Path, owner: str = "nobody") -> None:
        self._directory = directory
        # The name is unique even if processes of several machines share the directory.
        self._path = directory / f".{owner}.{secrets.token_hex(8)}.tmp"
        self._file: BinaryIO | None = None
        self._rows = self._bytes = self._dim = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # Rows that were computed before an error or Ctrl-C are kept.
        if self._file is not None:
            with self._all_or_nothing(self._bytes):
                self._complete(self._file)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows to the shard; the store contains these rows once the shard is completed.

        Raises:
            UserError: The disk is full or the directory may not be written.
        """
        added = sum(row.states.nbytes for row in rows)
        with self._all_or_nothing(added):
            if self._file is None:
                self._file = self._path.open("xb")
                self._stream = pa.ipc.new_stream(self._file, SCHEMA)
            self._stream.write_batch(_to_record_batch(rows))
        self._rows += len(rows)
        self._bytes += added
        self._dim = rows[0].states.shape[1]

    def _complete(self, file: BinaryIO) -> None:
        """Flush the shard to disk, and rename the file to its final name with the checksum."""
        self._stream.close()
        file.flush()
        # If the rename reached the disk before the data, a power failure would leave an empty file.
        os.fsync(file.fileno())
        file.close()
        checksum = hash_file(self._path)
        # Other processes hold the lock while they delete files without a sidecar.
        with lock_store(self._directory):
            path = self._path.rename(self._directory / f"data-{checksum}.arrow")
            status = path.stat()
            Shard(
                path, self._rows, status.st_size, checksum, status.st_mtime_ns, self._dim
            ).save_sidecar()

    @contextmanager
    def _all_or_nothing(self, needed: int) -> Iterator[None]:
        """Delete the whole shard if a write is interrupted, even by Ctrl-C."""
        try:
            with explain_disk_errors(f"the embedding cache {self._directory}", needed, REMEDY):
                yield
        except BaseException:
            self._file = None
            self._path.unlink(missing_ok=True)
            raise


def _to_record_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        pa.array([row.protein for row in rows], pa.string()),
        pa.array([row.sequence_hash for row in rows], pa.string()),
        pa.array([len(row.states) for row in rows], pa.int32()),
        pa.array([row.states.tobytes() for row in rows], pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def create_store_directory(directory: Path, identity: StoreIdentity) -> None:
    """Create the directory of a store, with a file `identity.json` that describes the content.

    Raises:
        UserError: The directory may not be written.
    """
    with explain_disk_errors(f"the embedding cache {directory}", remedy=REMEDY):
        directory.mkdir(parents=True, exist_ok=True)
    path = directory / "identity.json"
    with lock_store(directory):
        if not path.exists():
            write_atomically(path, json.dumps(asdict(identity), indent=1))


def read_shards(directory: Path) -> tuple[list[Shard], dict[Path, str]]:
    """Return the usable shards of a store, and its broken shards with the reasons.

    Shards without a sidecar are not returned, because another run may be about to write the
    sidecar.
    """
    shards: list[Shard] = []
    broken: dict[Path, str] = {}
    for sidecar in sorted(directory.glob("data-*.json")):
        path = sidecar.with_suffix(".arrow")
        shard = _check_shard(path)
        if isinstance(shard, Shard):
            shards.append(shard)
        else:
            broken[path] = shard
    return shards, broken


def discard_broken_shards(
    directory: Path, live: Collection[str] = ()
) -> tuple[list[Shard], dict[Path, str]]:
    """Delete broken shards and leftover temporary files; the caller must hold the lock.

    Args:
        directory: The directory of the store.
        live: The owners of temporary files that are still being written. All other temporary files
            are leftovers of dead runs, because active runs without a claim write under the lock.

    Returns:
        The same as `read_shards`, but shards without a sidecar count as broken.

    Raises:
        UserError: The directory may not be written.
    """
    shards, broken = read_shards(directory)
    known = {shard.path for shard in shards}
    for path in set(directory.glob("data-*.arrow")) - known - broken.keys():
        broken[path] = "no sidecar"
    with explain_disk_errors(f"the embedding cache {directory}", remedy=REMEDY):
        for path in broken:
            # A run that has opened the file can still read its memory map.
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            for sums in directory.glob(f"{path.stem}.*.npy"):
                sums.unlink(missing_ok=True)
        for path in directory.glob(".*.tmp"):
            if path.name.split(".")[1] not in live:
                path.unlink(missing_ok=True)
    return shards, broken


def _check_shard(path: Path) -> Shard | str:
    """Check a shard against its sidecar; return the shard, or the reason why it is unusable."""
    try:
        shard = Shard.from_sidecar(path)
    except (OSError, ValueError, TypeError, RecursionError):
        return "sidecar unreadable"
    try:
        status = path.stat()
        if status.st_size != shard.bytes:
            return f"{status.st_size} bytes instead of {shard.bytes}"
        # Writing to a file changes the time stamp. Reading tens of GB at every start, to detect
        # damaged disk blocks as well, would take minutes.
        if status.st_mtime_ns == shard.mtime_ns:
            return shard
        if hash_file(path) != shard.checksum:
            return "checksum differs"
    except OSError as error:
        return "file missing" if isinstance(error, FileNotFoundError) else "file unreadable"
    # The file was copied or touched. A read-only cache cannot record this and is checked each time.
    verified = replace(shard, mtime_ns=status.st_mtime_ns)
    with suppress(UserError):
        verified.save_sidecar()
    return verified


def write_dataset_files(directory: Path, shards: Sequence[Shard]) -> None:
    """Write the metadata files that make a store's directory a Hugging Face dataset.

    Raises:
        UserError: The directory may not be written.
    """
    features = {field.name: {"dtype": str(field.type), "_type": "Value"} for field in SCHEMA}
    names = [shard.path.name for shard in shards]
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": xxhash.xxh3_64_hexdigest("".join(names).encode()),
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_atomically(directory / "dataset_info.json", json.dumps({"features": features}, indent=1))
    write_atomically(directory / "state.json", json.dumps(state, indent=1))
