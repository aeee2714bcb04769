"""The states of proteins, encoded once and held for scoring: in memory, or in a file if too many.

What an interaction needs of one protein alone (`PairModel.prepare`) is computed once per protein
too and held with the states, if the memory allows; otherwise once per tile and protein.
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
    """Rows of encoded proteins, laid end to end.

    Attributes:
        rows: (R, width) on the model's device, or in a file mapped to memory.
        starts: (P,) first row of each protein; -1 for one that is not held.
        lengths: (P,) rows of each protein.
        prepared: Whether the rows are what `PairModel.prepare` makes of them.
        file: The mapping, where there is one.
    """

    rows: Tensor
    starts: HostInts
    lengths: HostInts
    prepared: bool
    file: mmap.mmap | None

    @classmethod
    def make_room(cls, job: ScoringJob, proteins: HostInts) -> Self:
        """Room for the states of these proteins, in this order, within the configured memory."""
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
        """Hold the rows (R', width) of these proteins, which are neighbours in `rows`."""
        first = int(self.starts[proteins[0]])
        self.rows[first : first + len(encoded)] = encoded
        self._release()

    def gather(self, proteins: HostInts, model: PairModel) -> Tensor:
        """Prepared rows of these proteins, laid end to end, in the model's dtype and device."""
        starts, lengths = self.starts[proteins], self.lengths[proteins]
        if self.rows.is_cuda:
            index = to_device(row_index(starts, lengths), self.rows.device)
            rows = self.rows.index_select(0, index)
        else:
            ends = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
            rows = torch.cat([self.rows[start:end] for start, end in ends])
        self._release()
        rows = rows.to(model.device)
        return rows if self.prepared else model.prepare(rows)

    def _release(self) -> None:
        """Give pages of the file back to the system; they would count as this process's memory."""
        if self.file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)


def encode_proteins(job: ScoringJob, proteins: HostInts, unscored: HostInts) -> ProteinStates:
    """Encode proteins, each on one process, and hold them on all.

    Args:
        job: Its model is in eval mode.
        proteins: All that have a part in the scoring, whoever scores them and whenever: batches
            are cut over them, so that a protein is always encoded among the same others.
        unscored: Those that are still needed; batches without any of them are left out.
    """
    residues = job.data.protein_lengths
    by_length = proteins[np.argsort(-residues[proteins], kind="stable")]
    batches = [by_length[piece] for piece in cut(residues[by_length], job.tile_residues)]
    # Over all proteins again: whether prepared states fit must not depend on what is left.
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
    """Rows (R', width) of some proteins, as `states` holds them."""
    store, names = job.data.store, job.data.table.proteins
    residues = np.concatenate([store[names[protein]] for protein in proteins.tolist()])
    rows = job.model.encode_rows(
        to_device(residues, job.model.device), job.data.protein_lengths[proteins]
    )
    return (job.model.prepare(rows) if states.prepared else rows).to(states.rows.dtype)


def share_rows(
    own: Tensor | None, owner: int, proteins: HostInts, states: ProteinStates, job: ScoringJob
) -> Tensor:
    """The rows of some proteins, on every process, from the one that has encoded them."""
    if own is None or owner != job.accelerator.process_index:
        shape = (int(states.lengths[proteins].sum()), states.rows.shape[1])
        own = torch.empty(shape, dtype=states.rows.dtype, device=job.accelerator.device)
    shared: Tensor = broadcast(own, from_process=owner)
    return shared


def row_widths(model: PairModel) -> tuple[int, int]:
    """How wide a state is, and how wide prepared."""
    residue = torch.zeros(1, model.config.input_dim, device=model.device)
    state = model.encode_rows(residue, np.ones(1, dtype=np.int64))
    return state.shape[1], model.prepare(state).shape[1]


def map_file(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, mmap.mmap]:
    """Room in a file without a name, which is gone with the process.

    Raises:
        UserError: The directory for temporary files cannot take it.
    """
    size = shape[0] * shape[1] * dtype.itemsize
    with explain_disk_errors(tempfile.gettempdir(), size), tempfile.TemporaryFile() as file:
        # A file with a hole would be cheaper; but this tells now whether there is room for it.
        os.posix_fallocate(file.fileno(), 0, size)
        mapped = mmap.mmap(file.fileno(), size)
    return torch.frombuffer(mapped, dtype=dtype).view(shape), mapped
