"""The files of the embedding cache: shards are committed whole, and checked before they are used.

One directory holds the residue states of one `StoreIdentity` and is a Hugging Face dataset
(`datasets.load_from_disk` opens it) with the columns `id`, `sequence_hash`, `length` and
`embedding` (residues x dim in the store's dtype, C order). Every shard `data-{checksum}.arrow`
has a sidecar `data-{checksum}.json`, written after it: a shard without one was not completed. Files
are committed and deleted under the lock of the directory (`lock_store`); readers need no lock.
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
    """Everything that determines the numbers in a store; stores that differ in it share no row.

    Attributes:
        model_name: Hub name, or the last part of a local directory's path.
        revision: The configured revision on the hub.
        weights_hash: Hash of the model's weights, configuration and tokenizer.
        layer: Index into the hidden states; -1 is the last one.
        dtype: `float16` or `float32`.
        max_length: Residues of which the model sees the states together: the length to which
            sequences are cut, or of a window.
        long: What happens to longer sequences; how windows overlap is a part of it.
    """

    model_name: str
    revision: str | None
    weights_hash: str
    layer: int
    dtype: str
    max_length: int
    long: str = TRUNCATED

    @property
    def directory_name(self) -> str:
        """The name of the store's directory: a readable part and a hash of all attributes."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.model_name).strip("-").lower()[-48:]
        facts = asdict(self)
        if self.long == TRUNCATED:  # Stores of before there were windows keep their names.
            del facts["long"]
        key = xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())
        return f"{slug}-{key}"


@dataclass(frozen=True)
class Shard:
    """A complete shard and what its sidecar says of it."""

    path: Path
    rows: int
    bytes: int
    checksum: str
    mtime_ns: int
    dim: int

    def save_sidecar(self) -> None:
        """Write the sidecar, which makes the shard part of the store."""
        facts = {key: value for key, value in asdict(self).items() if key != "path"}
        content = {**facts, "seal": _seal(facts)}
        write_atomically(self.path.with_suffix(".json"), json.dumps(content, indent=1))

    @classmethod
    def from_sidecar(cls, path: Path) -> Self:
        """Read the sidecar of the shard at `path`.

        Raises:
            OSError: The sidecar cannot be read.
            ValueError: It is not what `save_sidecar` wrote. With a changed `dim` the states would
                silently be cut into the wrong residues.
        """
        content = json.loads(path.with_suffix(".json").read_bytes())
        if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
            raise ValueError("the sidecar was changed after it was written")
        return cls(path=path, **content)


def _seal(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


@dataclass(frozen=True)
class Row:
    """One protein's residue states (length, dim), to be stored."""

    protein: str
    sequence_hash: str
    states: Embedding


class ShardWriter:
    """Writes one shard: a context manager that completes it on leaving, even after errors.

    Rows go to a temporary file at once, so only one batch is in memory. If no rows are added, no
    shard is written.

    Args:
        directory: The store's directory; it must exist.
        owner: Marks the temporary file, which lives as long as this owner's claim does.
    """

    def __init__(self, directory: Path, owner: str = "nobody") -> None:
        self._directory = directory
        # Unique over the processes of several machines that share the directory.
        self._path = directory / f".{owner}.{secrets.token_hex(8)}.tmp"
        self._file: BinaryIO | None = None
        self._rows = self._bytes = self._dim = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # What was computed before an error or Ctrl-C is kept.
        if self._file is not None:
            with self._all_or_nothing(self._bytes):
                self._complete(self._file)

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows; they become part of the store when the shard is completed.

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
        """Write through to the disk, and commit under a name made of the checksum."""
        self._stream.close()
        file.flush()
        # If the rename reached the disk before the data, a power cut would leave an empty file.
        os.fsync(file.fileno())
        file.close()
        checksum = hash_file(self._path)
        # Others hold the lock while they delete files without a sidecar.
        with lock_store(self._directory):
            path = self._path.rename(self._directory / f"data-{checksum}.arrow")
            status = path.stat()
            Shard(
                path, self._rows, status.st_size, checksum, status.st_mtime_ns, self._dim
            ).save_sidecar()

    @contextmanager
    def _all_or_nothing(self, needed: int) -> Iterator[None]:
        """Drop the whole shard if a write breaks off, even by Ctrl-C."""
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
    """Make a store's directory and describe in it, for people, what it contains.

    Raises:
        UserError: It may not be written.
    """
    with explain_disk_errors(f"the embedding cache {directory}", remedy=REMEDY):
        directory.mkdir(parents=True, exist_ok=True)
    path = directory / "identity.json"
    with lock_store(directory):
        if not path.exists():
            write_atomically(path, json.dumps(asdict(identity), indent=1))


def read_shards(directory: Path) -> tuple[list[Shard], dict[Path, str]]:
    """Return the shards that may be used, and the broken ones with the reason.

    Shards without a sidecar are in neither: another run may be about to write it.
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
    """Delete unusable files, including those of killed runs; call it while holding the lock.

    Args:
        directory: The store's directory.
        live: The owners of temporary files that are still being written. All other temporary files
            are leftovers: their owners are dead, or would write them under the lock.

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
            # A run that has the file mapped keeps its mapping.
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
            for sums in directory.glob(f"{path.stem}.*.npy"):
                sums.unlink(missing_ok=True)
        for path in directory.glob(".*.tmp"):
            if path.name.split(".")[1] not in live:
                path.unlink(missing_ok=True)
    return shards, broken


def _check_shard(path: Path) -> Shard | str:
    """Return the shard, or what is wrong with it."""
    try:
        shard = Shard.from_sidecar(path)
    except (OSError, ValueError, TypeError, RecursionError):
        return "sidecar unreadable"
    try:
        status = path.stat()
        if status.st_size != shard.bytes:
            return f"{status.st_size} bytes instead of {shard.bytes}"
        # Writing to a file changes its time stamp. Reading tens of GB at every start, to find
        # decayed disk blocks as well, would take minutes.
        if status.st_mtime_ns == shard.mtime_ns:
            return shard
        if hash_file(path) != shard.checksum:
            return "checksum differs"
    except OSError as error:
        return "file missing" if isinstance(error, FileNotFoundError) else "file unreadable"
    # It was copied or touched. A read-only cache cannot note that, and is verified at every start.
    verified = replace(shard, mtime_ns=status.st_mtime_ns)
    with suppress(UserError):
        verified.save_sidecar()
    return verified


def write_dataset_files(directory: Path, shards: Sequence[Shard]) -> None:
    """Write the two files that make the directory a Hugging Face dataset of these shards.

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
