"""The files of the embedding cache: shards written whole, and checked before they are used.

One directory holds the residue states of one `StoreIdentity` and is a Hugging Face dataset
(`datasets.load_from_disk` opens it) with the columns `id`, `sequence_hash`, `length` and
`embedding` (residues x dim in the store's dtype, C order). Every shard `data-{checksum}.arrow`
has a sidecar `data-{checksum}.json`, written after it: a shard without one was not completed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from common.errors import UserError
from common.files import hash_file, size_note, write_atomically

Embedding = NDArray[np.floating[Any]]

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "sequence_hash": pa.string(),
        "length": pa.int32(),
        "embedding": pa.large_binary(),
    }
)
# A killed run loses no more than this much work, however slowly a shard fills.
FLUSH_SECONDS = 60.0


@dataclass(frozen=True)
class StoreIdentity:
    """What determines the numbers in a store; two that differ in any of it never share a row.

    Attributes:
        model_name: Hub name, or the last part of a local directory's path.
        revision: The configured revision on the hub.
        weights_hash: Hash of the model's weights, configuration and tokenizer.
        layer: Index into the hidden states; -1 is the last one.
        dtype: `float16` or `float32`.
        max_length: Residues after which a sequence is cut.
    """

    model_name: str
    revision: str | None
    weights_hash: str
    layer: int
    dtype: str
    max_length: int

    @property
    def directory_name(self) -> str:
        """A readable part and a hash of everything."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.model_name).strip("-").lower()[-48:]
        key = xxhash.xxh3_64_hexdigest(json.dumps(asdict(self), sort_keys=True).encode())
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
        """Write the sidecar; from here on the shard counts."""
        facts = {key: value for key, value in asdict(self).items() if key != "path"}
        content = {**facts, "seal": _seal(facts)}
        write_atomically(self.path.with_suffix(".json"), json.dumps(content, indent=1))

    @classmethod
    def from_sidecar(cls, path: Path) -> Self:
        """The shard at `path`.

        Raises:
            OSError: The sidecar cannot be read.
            ValueError: It is not what `save_sidecar` wrote: a changed `dim` would cut the states
                into other residues, with nothing to notice it.
        """
        content = json.loads(path.with_suffix(".json").read_bytes())
        if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
            raise ValueError("the sidecar does not bear its own seal")
        return cls(path=path, **content)


def _seal(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(facts, sort_keys=True).encode())


@dataclass(frozen=True)
class Row:
    """One protein's residue states (length, dim), about to be stored."""

    protein: str
    sequence_hash: str
    states: Embedding


class ShardWriter:
    """Writes rows into shards of a bounded size and age; a context manager that flushes at the end.

    What arrives goes to a temporary file straight away, so memory holds one batch at most.

    Args:
        directory: The store's directory; it must exist.
        max_bytes: A shard that has grown to this size is completed.
        max_seconds: So is one that was begun so long ago.
    """

    def __init__(self, directory: Path, max_bytes: int, max_seconds: float = FLUSH_SECONDS) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._open: _OpenShard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # On errors and Ctrl-C too: what was computed is kept.
        self.flush()

    def add(self, rows: Sequence[Row]) -> None:
        """Store rows; they count once their shard is flushed.

        Raises:
            UserError: The disk is full or the directory may not be written.
        """
        with self._all_or_nothing(sum(row.states.nbytes for row in rows)):
            self._open = self._open or _OpenShard(self._directory)
            self._open.append(rows)
        age = time.monotonic() - self._open.started
        if age >= self._max_seconds or self._open.bytes >= self._max_bytes:
            self.flush()

    def flush(self) -> None:
        """Complete the shard under way, if there is one."""
        if self._open is not None:
            with self._all_or_nothing(self._open.bytes):
                self._open.complete().save_sidecar()
            self._open = None

    @contextmanager
    def _all_or_nothing(self, needed: int | None = None) -> Iterator[None]:
        """Drop the shard under way if a write to it breaks off, be it by Ctrl-C."""
        try:
            with _telling_write_errors(self._directory, needed):
                yield
        except BaseException:
            if self._open is not None:
                self._open.path.unlink(missing_ok=True)
            self._open = None
            raise


class _OpenShard:
    """A shard while it is written, under a temporary name."""

    def __init__(self, directory: Path) -> None:
        # Unique over the processes of several machines that share the directory.
        self.path = directory / f".{secrets.token_hex(8)}.tmp"
        self._file = self.path.open("xb")
        self._stream = pa.ipc.new_stream(self._file, SCHEMA)
        self.started = time.monotonic()
        self.rows = self.bytes = self.dim = 0

    def append(self, rows: Sequence[Row]) -> None:
        self._stream.write_batch(_to_record_batch(rows))
        self.rows += len(rows)
        self.bytes += sum(row.states.nbytes for row in rows)
        self.dim = rows[0].states.shape[1]

    def complete(self) -> Shard:
        """Close, write through to the disk, and rename to the name made of the checksum."""
        self._stream.close()
        self._file.flush()
        # A rename that outruns its data leaves a hollow file after a power cut.
        os.fsync(self._file.fileno())
        self._file.close()
        checksum = hash_file(self.path)
        path = self.path.rename(self.path.with_name(f"data-{checksum}.arrow"))
        status = path.stat()
        return Shard(path, self.rows, status.st_size, checksum, status.st_mtime_ns, self.dim)


@contextmanager
def _telling_write_errors(directory: Path, needed: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the embedding cache {directory}{size_note(needed)}:"
            f" {error.strerror or error};"
            " make room or permit writing there, or choose another"
            " data_config.embeddings.cache_dir"
        ) from None


def _to_record_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    offsets = np.cumsum([0, *(row.states.nbytes for row in rows)], dtype=np.int64)
    content = np.concatenate([row.states.reshape(-1) for row in rows])
    embeddings = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    )
    columns = [
        pa.array([row.protein for row in rows], pa.string()),
        pa.array([row.sequence_hash for row in rows], pa.string()),
        pa.array([len(row.states) for row in rows], pa.int32()),
        embeddings,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def create_store_directory(directory: Path, identity: StoreIdentity) -> None:
    """Make a store's directory and note in it, for people, what it holds.

    Raises:
        UserError: It may not be written.
    """
    with _telling_write_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "identity.json", json.dumps(asdict(identity), indent=1))


def read_shards(directory: Path) -> tuple[list[Shard], dict[Path, str]]:
    """The shards that may be used, and the broken ones with the reason.

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


def discard_broken_shards(directory: Path) -> dict[Path, str]:
    """Delete what cannot be used, the remains of killed runs included; returns the reasons.

    To be called under the store's lock, when no other run writes.

    Raises:
        UserError: The directory may not be written.
    """
    shards, broken = read_shards(directory)
    known = {shard.path for shard in shards}
    for path in set(directory.glob("data-*.arrow")) - known - broken.keys():
        broken[path] = "no sidecar"
    with _telling_write_errors(directory):
        for path in broken:
            # A run that has the file mapped keeps its mapping.
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
        for path in directory.glob(".*.tmp"):
            path.unlink(missing_ok=True)
    return broken


def _check_shard(path: Path) -> Shard | str:
    """The shard, or what is wrong with it."""
    try:
        shard = Shard.from_sidecar(path)
    except (OSError, ValueError, TypeError, RecursionError):
        return "sidecar unreadable"
    try:
        return _compare(path, shard)
    except FileNotFoundError:
        return "file missing"
    except OSError:
        return "file unreadable"


def _compare(path: Path, shard: Shard) -> Shard | str:
    status = path.stat()
    if status.st_size != shard.bytes:
        return f"{status.st_size} bytes instead of {shard.bytes}"
    # Whoever writes to a file moves its time stamp. Reading tens of GB at every start to find
    # decayed disk blocks as well would cost minutes each time.
    if status.st_mtime_ns == shard.mtime_ns:
        return shard
    if hash_file(path) != shard.checksum:
        return "checksum differs"
    return _accept_time_stamp(shard, status.st_mtime_ns)


def _accept_time_stamp(shard: Shard, mtime_ns: int) -> Shard:
    """A whole shard with another time stamp was copied or touched: no need to read it again."""
    accepted = replace(shard, mtime_ns=mtime_ns)
    try:
        accepted.save_sidecar()
    except UserError:
        # A cache that may only be read is verified at every start.
        return shard
    return accepted


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
