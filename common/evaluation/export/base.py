"""The interface of output formats for networks, and the handling of output files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.files import explain_disk_errors, publish_files
from common.registry import WRITERS

Numbers = NDArray[np.int64]

COLUMNS = ("protein_a", "protein_b", "probability", "call")


@dataclass(frozen=True)
class Proteins:
    """The proteins of a network, to which pairs refer by index.

    Attributes:
        ids: The protein ids.
        lengths: (P,) the numbers of residues.
        descriptions: The text after the id in each FASTA header, by protein id.
        listed: Indices of the proteins that are nodes of the network even without a pair.
    """

    ids: tuple[str, ...]
    lengths: Numbers
    descriptions: dict[str, str] = field(default_factory=dict)
    listed: Numbers = field(default_factory=lambda: np.empty(0, np.int64))


class Rows(NamedTuple):
    """M pairs to write: (M,) indices of both proteins, probabilities, and calls (0 or 1)."""

    first: Numbers
    second: Numbers
    probabilities: NDArray[np.float64]
    calls: NDArray[np.int8]

    def select(self, which: NDArray[np.bool_] | slice) -> Rows:
        """Return only the pairs that a mask or slice selects."""
        first, second, probabilities, calls = self
        return Rows(first[which], second[which], probabilities[which], calls[which])


class Writer(Protocol):
    """The interface of a writer, which receives the pairs of a network block by block."""

    def write(self, rows: Rows) -> None:
        """Write the next pairs, or keep them until the network is complete."""

    def close(self) -> None:
        """Complete and close the files after the last pair."""


@dataclass(frozen=True)
class Format:
    """A file format for predicted networks.

    Attributes:
        open: Creates the files of an output, and returns the writer.
        opens_with: The names of programs that read the format, for the user.
        only_called: Whether the format lists only predicted interactions, unless the user selects
            pairs with an option.
    """

    open: Callable[[Output, Proteins], Writer]
    opens_with: str
    only_called: bool = False


@dataclass
class Output:
    """The files of one output, which are written in a temporary folder until all are complete.

    Attributes:
        path: The file that the user requested.
        folder: The existing temporary folder, on the same file system as `path`.
    """

    path: Path
    folder: Path
    _files: dict[Path, Path] = field(default_factory=dict)

    def create(self, path: Path | None = None) -> IO[bytes]:
        """Create a temporary file that `publish` moves to `path`, by default the output's path."""
        final = path or self.path
        temporary = self.folder / final.name
        self._files[temporary] = final
        with explain_disk_errors(final):
            return temporary.open("wb")

    def create_scratch(self) -> IO[bytes]:
        """Create a scratch file, which is deleted when the output is complete."""
        with explain_disk_errors(self.path):
            return (self.folder / "scratch").open("w+b")

    def companion(self, kind: str) -> Path:
        """Return the path of an additional file, such as `net.nodes.tsv` for `net.sif`."""
        return self.path.with_name(f"{self.path.stem}.{kind}")

    def publish(self) -> None:
        """Move all complete files to their final paths, the requested output file last."""
        publish_files(dict(sorted(self._files.items(), key=lambda item: item[1] == self.path)))


def format_of(path: Path) -> Format:
    """Return the output format that belongs to the suffix of a file name.

    Raises:
        UserError: No format has the suffix.
    """
    name = path.name.lower()
    for suffix in WRITERS.names():
        if name.endswith(f".{suffix}"):
            found: Format = WRITERS.get(suffix)
            return found
    known = ", ".join(f".{suffix}" for suffix in WRITERS.names())
    raise UserError(
        f"--output {path} has no suffix of a known format; use one of the suffixes {known}"
    )


def check_output(path: Path, inputs: Sequence[Path], option: str = "--output") -> None:
    """Check, before any scoring, that an output file can be written without losing an input.

    Raises:
        UserError: The output's folder does not exist or is not writable, or the output is a folder,
            a device, or one of the inputs.
    """
    reason = _why_no_output(path, inputs)
    if reason is not None:
        raise UserError(f"{option} {path} {reason}; choose another file in an existing folder")


def _why_no_output(path: Path, inputs: Sequence[Path]) -> str | None:
    try:
        folder = path.resolve().parent  # For a link, the file that it points to is written.
    except (OSError, RuntimeError):  # the type of the error depends on Python's version
        return "is a symbolic link that points to itself"
    if not folder.is_dir():
        return "is in a folder that does not exist"
    if not os.access(folder, os.W_OK):
        return "is in a folder that is not writable"
    if path.exists() and not path.is_file():
        return "is a directory" if path.is_dir() else "is not a regular file"
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        return "is one of the inputs"
    return None
