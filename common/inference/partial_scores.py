"""Save the scores of finished tiles, so that an interrupted scoring can be resumed."""

from __future__ import annotations

import contextlib
import inspect
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray

from common.errors import UserError
from common.files import explain_disk_errors, write_atomically
from common.inference.scoring_job import ScoringJob
from common.inference.tiles import Tiles
from common.run import on_main_process

Scores = NDArray[np.float32]

# Files of other scorings are deleted if they are older than this.
ABANDONED_AFTER = 7 * 24 * 3600.0  # seconds


@dataclass
class PartialScores:
    """The saved logits of a scoring: one file per process, with NaN for unknown logits.

    Attributes:
        folder: The files' directory, which may also contain files of other scorings.
        accelerator: The processes.
        identity: The digest of what is being scored; set by `load`.
    """

    folder: Path
    accelerator: Accelerator
    identity: str = ""

    def load(self, identity: str, count: int) -> Scores:
        """Read the scores (count,) that earlier runs saved, identical on every process.

        Raises:
            UserError: The folder cannot be created.
        """
        self.identity = identity
        known = np.full(count, np.nan, dtype=np.float32)
        on_main_process(self.accelerator, lambda: self._collect(known))
        # One process reads for all, because a file may appear while another process looks.
        shared = torch.from_numpy(known).to(self.accelerator.device)
        found: Scores = broadcast(shared, from_process=0).cpu().numpy()
        return found

    def save(self, scores: Scores) -> None:
        """Save scores (count,), NaN where unknown, to this process's file.

        Raises:
            UserError: The file cannot be written.
        """
        content = scores.tobytes()
        content = xxhash.xxh3_128_digest(content) + content
        path = self.folder / f"{self.identity}.{self.accelerator.process_index}.f32"
        self._make_folder()
        try:
            write_atomically(path, content)
        except UserError:
            # Another evaluation of this model may have removed the empty folder. If the cause is
            # a different one, this fails too.
            self._make_folder()
            write_atomically(path, content)

    def clear(self) -> None:
        """Delete the files of this scoring, after its scores have been written elsewhere."""
        # Hidden files are those that a killed process was writing.
        for pattern in (f"{self.identity}.*.f32", f".{self.identity}.*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _collect(self, known: Scores) -> None:
        self._make_folder()
        for path in self.folder.glob("*.f32"):
            # The tiles of a file that cannot be read are scored again.
            with contextlib.suppress(OSError):
                if path.name.startswith(f"{self.identity}."):
                    content = path.read_bytes()
                    if content[:16] == xxhash.xxh3_128_digest(content[16:]):
                        found = np.frombuffer(content[16:], dtype=np.float32)
                        np.copyto(known, found, where=np.isnan(known))
                elif time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                    path.unlink()

    def _make_folder(self) -> None:
        with explain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)


def identify(job: ScoringJob, tiles: Tiles) -> str:
    """Compute a digest of everything that the scores and their order depend on."""
    digest = xxhash.xxh3_128(identify_model(job))
    digest.update(tiles.pairs.tobytes())
    for protein in job.data.table.proteins:
        digest.update(protein.encode() + b"\n")
        digest.update(job.data.store[protein].tobytes())
    return str(digest.hexdigest())


def identify_model(job: ScoringJob) -> bytes:
    """Compute a digest of the model and of the settings that its scores depend on.

    Of the software, the digest covers only the model's source file and torch's version.
    """
    model = job.model
    digest = xxhash.xxh3_128()
    precision = (job.accelerator.mixed_precision, job.accelerator.device.type, job.state_dtype)
    sizes = (job.state_bytes, job.tile_residues)
    digest.update(repr((torch.__version__, precision, sizes)).encode())
    # The model's code may be edited between two attempts.
    digest.update(Path(inspect.getfile(type(model))).read_bytes())
    digest.update(model.config.to_json_string().encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return bytes(digest.digest())
