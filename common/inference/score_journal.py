"""Append the scores of finished stripes to a file, from which a scoring can be resumed.

Stripes are only appended, each with its length and checksum; a stripe that a killed process left
incomplete is detected and removed. Only the main process writes and reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
import xxhash
from accelerate import Accelerator

from common.files import explain_disk_errors
from common.inference.partial_scores import Scores
from common.run import LOGGER, format_event, on_main_process

_HEAD = struct.Struct("<q16s")  # the number of scores, and their checksum
_SUFFIX = ".scores"


@dataclass
class ScoreJournal:
    """An append-only file that contains the logits of finished stripes.

    Attributes:
        path: The file; None to save nothing.
        stripes: The number of stripes in the file when it was opened, the same on every process.
        pairs: The number of scores in these stripes.
    """

    path: Path | None = None
    stripes: int = 0
    pairs: int = 0

    @classmethod
    def open(cls, folder: Path, identity: str, accelerator: Accelerator) -> Self:
        """Open the journal of a scoring, and delete the journals of other scorings in the folder.

        Args:
            folder: An existing folder.
            identity: A digest of everything that the scores and their order depend on.
            accelerator: The processes; every process calls this.

        Raises:
            UserError: The file cannot be written.
        """
        path = folder / f"{identity}{_SUFFIX}"

        def begin() -> tuple[int, int]:
            with explain_disk_errors(path):
                for other in folder.glob(f"*{_SUFFIX}"):
                    if other != path:
                        other.unlink()
                return _cut_off_damage(path)

        stripes, pairs = on_main_process(accelerator, begin)
        if stripes:
            LOGGER.info(format_event("scoring_resumed", pairs_kept=pairs))
        return cls(path if accelerator.is_main_process else None, stripes, pairs)

    def read(self) -> Iterator[Scores]:
        """Yield on the main process the stripes that the file contained when it was opened."""
        if self.path is None or not self.stripes:
            return
        with self.path.open("rb") as file:
            for _ in range(self.stripes):
                stripe = _next(file)
                assert stripe is not None  # It was checked when the journal was opened.
                yield stripe

    def append(self, logits: Scores) -> None:
        """Append the logits of the next stripe.

        Raises:
            UserError: The disk is full.
        """
        if self.path is None:
            return
        content = logits.tobytes()
        with explain_disk_errors(self.path, len(content)), self.path.open("ab") as file:
            file.write(_HEAD.pack(len(logits), xxhash.xxh3_128_digest(content)) + content)


def _cut_off_damage(path: Path) -> tuple[int, int]:
    """Truncate a file after its last complete stripe; return its number of stripes and scores."""
    stripes = pairs = end = 0
    with path.open("a+b") as file:
        file.seek(0)
        while (stripe := _next(file)) is not None:
            stripes, pairs, end = stripes + 1, pairs + len(stripe), file.tell()
        file.truncate(end)
    return stripes, pairs


def _next(file: IO[bytes]) -> Scores | None:
    """Read the next complete stripe; return None at the end of the file or at damaged data."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    count, checksum = _HEAD.unpack(head)
    if not 0 <= count <= 1 << 40:
        return None
    content = file.read(count * 4)
    if len(content) < count * 4 or xxhash.xxh3_128_digest(content) != checksum:
        return None
    return np.frombuffer(content, dtype=np.float32)
