"""The interface of output formats, and the files that one output consists of."""

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
    """The proteins of a network; pairs name them by number.

    Attributes:
        ids: Their ids.
        lengths: (P,) residues of their sequences.
        descriptions: What follows the id in the header of the FASTA file, by id.
        listed: Which proteins are nodes of the network even without a pair.
    """

    ids: tuple[str, ...]
    lengths: Numbers
    descriptions: dict[str, str] = field(default_factory=dict)
    listed: Numbers = field(default_factory=lambda: np.empty(0, np.int64))


class Rows(NamedTuple):
    """Pairs to write: (M,) numbers of both proteins, probabilities, and calls (0 or 1)."""

    first: Numbers
    second: Numbers
    probabilities: NDArray[np.float64]
    calls: NDArray[np.int8]

    def select(self, which: NDArray[np.bool_] | slice) -> Rows:
        """Return some of the pairs."""
        first, second, probabilities, calls = self
        return Rows(first[which], second[which], probabilities[which], calls[which])


class Writer(Protocol):
    """Writes pairs, one block after the other."""

    def write(self, rows: Rows) -> None:
        """Add pairs."""

    def close(self) -> None:
        """Write what can only be written at the end."""


@dataclass(frozen=True)
class Format:
    """An output format.

    Attributes:
        open: Begins an output and returns its writer.
        opens_with: The programs that read it, to be shown to the user.
        only_called: Whether it lists interactions, and therefore only called pairs unless the user
            selects pairs with an option.
    """

    open: Callable[[Output, Proteins], Writer]
    opens_with: str
    only_called: bool = False


@dataclass
class Output:
    """The files of one output, written in a folder beside it until all of them are complete.

    Attributes:
        path: The file that the user asked for.
        folder: An existing folder on the same file system.
    """

    path: Path
    folder: Path
    _files: dict[Path, Path] = field(default_factory=dict)

    def create(self, path: Path | None = None) -> IO[bytes]:
        """Begin a file that will be moved to this path, by default to that of the output itself."""
        final = path or self.path
        temporary = self.folder / final.name
        self._files[temporary] = final
        with explain_disk_errors(final):
            return temporary.open("wb")

    def create_scratch(self) -> IO[bytes]:
        """Begin a file that is only needed until the output is complete."""
        with explain_disk_errors(self.path):
            return (self.folder / "scratch").open("w+b")

    def companion(self, kind: str) -> Path:
        """Return the path of a further file, such as `net.nodes.tsv` beside `net.sif`."""
        return self.path.with_name(f"{self.path.stem}.{kind}")

    def publish(self) -> None:
        """Move the complete files to their final paths, the output itself as the last one."""
        publish_files(dict(sorted(self._files.items(), key=lambda item: item[1] == self.path)))


def format_of(path: Path) -> Format:
    """Choose the format by the suffix of an output's name.

    Raises:
        UserError: No format has its suffix.
    """
    name = path.name.lower()
    for suffix in WRITERS.names():
        if name.endswith(f".{suffix}"):
            found: Format = WRITERS.get(suffix)
            return found
    known = ", ".join(f".{suffix}" for suffix in WRITERS.names())
    raise UserError(
        f"--output {path} does not say which format to write; give it one of the suffixes {known}"
    )


def check_output(path: Path, inputs: Sequence[Path], option: str = "--output") -> None:
    """Refuse, before hours of scoring, an output that cannot or should not be written.

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
    except (OSError, RuntimeError):  # which of the two is raised depends on Python's version
        return "is a link that leads back to itself"
    if not folder.is_dir():
        return "is in a folder that does not exist"
    if not os.access(folder, os.W_OK):
        return "is in a folder that is not writable"
    if path.exists() and not path.is_file():
        return "is a directory" if path.is_dir() else "is not a regular file"
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        return "is one of the inputs"
    return None
