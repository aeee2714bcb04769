"""Scores of finished tiles on disk, from which an interrupted scoring goes on."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray

from common.evaluation.scoring_job import ScoringJob
from common.files import explain_disk_errors, write_atomically

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class PartialScores:
    """One file per process: the logit of each planned pair, NaN where it is not known yet.

    Attributes:
        folder: Where the files are.
        identity: Of what is being scored; files of anything else are removed.
        accelerator: Tells the rank.
    """

    folder: Path
    identity: str
    accelerator: Accelerator

    def load(self, count: int) -> Scores:
        """(count,) what all processes of earlier runs left, the same on every process."""
        known = np.full(count, np.nan, dtype=np.float32)
        if self.accelerator.is_main_process:
            self._collect(known)
        # Read by one and told to all: a file may appear while another process looks.
        shared = torch.from_numpy(known).to(self.accelerator.device)
        told: Scores = broadcast(shared, from_process=0).cpu().numpy()
        return told

    def save(self, scores: Scores) -> None:
        """Write this process's file anew, (count,) with NaN where not known.

        Raises:
            UserError: It cannot be written.
        """
        file = io.BytesIO()
        np.save(file, scores)
        path = self.folder / f"{self.identity}.{self.accelerator.process_index}.npy"
        self._make_folder()
        write_atomically(path, file.getvalue())

    def _collect(self, known: Scores) -> None:
        self._make_folder()
        for path in self.folder.glob("*.npy"):
            if not path.name.startswith(f"{self.identity}."):
                path.unlink(missing_ok=True)
                continue
            # A file that cannot be read costs its tiles, no more.
            with contextlib.suppress(OSError, ValueError, EOFError):
                found = np.load(path)
                if found.shape == known.shape:
                    np.copyto(known, found, where=np.isnan(known))

    def _make_folder(self) -> None:
        with explain_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)


def clear_partial_scores(folder: Path) -> None:
    """Delete what is kept there: the scores are where they are wanted.

    Another evaluation that keeps its scores in the same folder writes them again within a minute.
    """
    for path in folder.glob("*.npy"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def identify(job: ScoringJob) -> str:
    """A digest of everything that the scores follow from."""
    model, data = job.model, job.data
    digest = xxhash.xxh3_128()
    described = (type(model).__name__, job.settings, job.accelerator.mixed_precision)
    digest.update(repr(described).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    digest.update(data.table.pairs.tobytes())
    for protein in data.table.proteins:
        digest.update(protein.encode())
        digest.update(data.store[protein].tobytes())
    return str(digest.hexdigest())
