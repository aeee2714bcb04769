"""Encode proteins once, and store their states for scoring in memory or in a mapped file.

The part of an interaction that depends on one protein alone (`PairModel.prepare`) is computed once
per protein as well, if the memory allows; otherwise once per tile and protein.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from accelerate.utils import broadcast
from torch import Tensor

from common.files import explain_disk_errors
from common.inference.scoring_job import ScoringJob
from common.models.base import PairModel
from common.models.ragged import HostInts, cut, row_index, to_device


@dataclass(frozen=True)
class ProteinStates:
    """The states of encoded proteins, as rows laid end to end.

    Attributes:
        rows: (R, width) on the model's device, or in a mapped file.
        starts: (P,) the first row of each protein; -1 if the protein is not stored.
        lengths: (P,) rows of each protein.
        prepared: Whether `PairModel.prepare` has been applied to the rows.
        file: The mapping, if there is one.
    """

    rows: Tensor
    starts: HostInts
    lengths: HostInts
    prepared: bool
    file: mmap.mmap | None

    @classmethod
    def make_room(cls, job: ScoringJob, proteins: HostInts) -> Self:
        """Allocate storage for the states of these proteins, in this order."""
        lengths, dtype = job.state_lengths, job.state_dtype
        starts = np.full(len(lengths), -1, dtype=np.int64)
        starts[proteins] = np.cumsum(lengths[proteins]) - lengths[proteins]
        count = int(lengths[proteins].sum())
        plain, prepared = row_widths(job.model)
        fits = count * prepared * dtype.itemsize <= job.state_bytes
        shape = (count, prepared if fits else plain)
        if count * shape[1] * dtype.itemsize <= job.state_bytes:
            rows, file = torch.empty(shape, dtype=dtype, device=job.model.device), None
        else:
            rows, file = map_file(shape, dtype)
        return cls(rows, starts, lengths, fits, file)

    def put(self, proteins: HostInts, encoded: Tensor) -> None:
        """Store the rows (R', width) of these proteins, which must be adjacent in `rows`."""
        first = int(self.starts[proteins[0]])
        self.rows[first : first + len(encoded)] = encoded
        self._release()

    def gather(self, proteins: HostInts, model: PairModel) -> Tensor:
        """Return the prepared rows of these proteins, end to end, on the model's device."""
        starts, lengths = self.starts[proteins], self.lengths[proteins]
        if self.rows.is_cuda or (lengths == 1).all():
            index = to_device(row_index(starts, lengths), self.rows.device)
            rows = self.rows.index_select(0, index)
        else:
            ends = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
            rows = torch.cat([self.rows[start:end] for start, end in ends])
        self._release()
        rows = rows.to(model.device)
        return rows if self.prepared else model.prepare(rows)

    def _release(self) -> None:
        """Release the file's pages in memory, which would count as this process's memory."""
        if self.file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)


def encode_proteins(job: ScoringJob, proteins: HostInts, unscored: HostInts) -> ProteinStates:
    """Encode each protein on one process, and store its states on all processes.

    Args:
        job: The scoring, whose model is in eval mode.
        proteins: All proteins of the scoring, also those already scored: batches are planned over
            them, so that a protein is always encoded with the same others.
        unscored: The proteins still needed; batches without any of them are left out.
    """
    residues = job.data.protein_lengths
    by_length = proteins[np.argsort(-residues[proteins], kind="stable")]
    batches = [by_length[piece] for piece in cut(residues[by_length], job.tile_residues)]
    # For all proteins: whether prepared states fit must not depend on how many are left.
    states = ProteinStates.make_room(job, by_length)
    needed = [batch for batch in batches if np.isin(batch, unscored).any()]
    processes, rank = job.accelerator.num_processes, job.accelerator.process_index
    with job.progress(sum(map(len, needed)), "proteins") as work:
        for first in range(0, len(needed), processes):
            turns = needed[first : first + processes]
            own = None
            if rank < len(turns):
                with job.explaining_memory("encoding", turns[rank]):
                    own = encode_batch(job, turns[rank], states)
            for owner, batch in enumerate(turns):
                states.put(batch, share_rows(own, owner, batch, states, job))
                work.advance(len(batch))
    return states


def encode_batch(job: ScoringJob, proteins: HostInts, states: ProteinStates) -> Tensor:
    """Encode proteins as rows (R', width), in the form in which `states` stores proteins."""
    store, names = job.data.store, job.data.table.proteins
    residues = np.concatenate([store[names[protein]] for protein in proteins.tolist()])
    rows = job.model.encode_rows(
        to_device(residues, job.model.device), job.data.protein_lengths[proteins]
    )
    return (job.model.prepare(rows) if states.prepared else rows).to(states.rows.dtype)


def share_rows(
    own: Tensor | None, owner: int, proteins: HostInts, states: ProteinStates, job: ScoringJob
) -> Tensor:
    """Broadcast the rows of some proteins from the process that has encoded them."""
    if own is None or owner != job.accelerator.process_index:
        shape = (int(states.lengths[proteins].sum()), states.rows.shape[1])
        own = torch.empty(shape, dtype=states.rows.dtype, device=job.accelerator.device)
    shared: Tensor = broadcast(own, from_process=owner)
    return shared


def row_widths(model: PairModel) -> tuple[int, int]:
    """Return the widths of a model's states and of its prepared states."""
    residue = torch.zeros(1, model.config.input_dim, device=model.device)
    state = model.encode_rows(residue, np.ones(1, dtype=np.int64))
    return state.shape[1], model.prepare(state).shape[1]


def map_file(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, mmap.mmap]:
    """Create a memory-mapped temporary file, which is deleted when the process ends.

    Raises:
        UserError: The directory for temporary files has no room for it.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    with explain_disk_errors(tempfile.gettempdir(), size), tempfile.TemporaryFile() as file:
        # Not a sparse file: a full disk must be noticed here and not on a later write.
        os.posix_fallocate(file.fileno(), 0, size)
        mapped = mmap.mmap(file.fileno(), size)
    return torch.frombuffer(mapped, dtype=dtype).view(shape), mapped
