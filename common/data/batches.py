"""Plans batches of protein pairs, distributes them over processes, and builds their tensors.

A batch contains every protein once, even if several pairs contain the protein, and no padding: the
residues of all proteins are concatenated, so proteins of any lengths can share a batch. The order
of an epoch depends only on `(seed, epoch)` and the *global* batch (batch_size x processes): one
process, or two with half the batch size, see the same global batches in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.config import TrainingConfig
from common.config_data import DataloaderConfig, SamplingConfig
from common.data.negatives import Resampling, cycle
from common.errors import UserError

if TYPE_CHECKING:  # These modules import file libraries that batches do not need.
    from common.data.embeddings.store import Store
    from common.data.tables.pairs import PairTable

Rows = NDArray[np.int64]

STAND_IN = -1  # the row number of a stand-in, a pair of weight 0 (see `PairBatch`)


@dataclass(frozen=True)
class PairBatch:
    """A batch of labelled pairs, with the embeddings of all proteins in the pairs.

    Attributes:
        proteins: (R, D) concatenated residue embeddings of U proteins, in the store's dtype.
        lengths: (U,) residues of each protein. `lengths`, `pairs` and `rows` stay on the host,
            which plans with these arrays and would otherwise have to wait for the device.
        pairs: (B, 2) indices of each pair's proteins, from 0 to U - 1.
        labels: (B,) 0.0 or 1.0.
        weights: (B,) 1.0, or 0.0 for a stand-in in a process that has no pair left.
        rows: (B,) row numbers in the pair table; `STAND_IN` for a stand-in.
        total: The number of pairs of weight 1 in this round, over all processes.
        names: The U protein ids.
    """

    proteins: Tensor
    lengths: Rows
    pairs: Rows
    labels: Tensor
    weights: Tensor
    rows: Rows
    total: int
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Self:
        """Copy the batch to a device, without waiting if the batch is in pinned memory."""
        return self.change(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Copy the batch to page-locked (pinned) memory, as `DataLoader` requests."""
        return self.change(Tensor.pin_memory)

    def keep(self, rows: Rows) -> Self:
        """Return a smaller batch with only the pairs of these row numbers, and their proteins.

        Args:
            rows: The row numbers to keep, over all processes. A process without any of these rows
                keeps its first pair as a stand-in, because every process must take part in the
                backward pass.
        """
        chosen = np.flatnonzero(np.isin(self.rows, rows))
        kept, weight = self.rows[chosen], 1.0
        if not len(chosen):
            chosen, kept, weight = np.zeros(1, dtype=np.int64), np.array([STAND_IN]), 0.0
        used, pairs = np.unique(self.pairs[chosen], return_inverse=True)
        residues = self.proteins.split(self.lengths.tolist())
        labels = self.labels.split(1)
        return replace(
            self,
            proteins=torch.cat([residues[protein] for protein in used]),
            lengths=self.lengths[used],
            pairs=pairs.reshape(-1, 2),
            # An index tensor would be copied from pageable memory, which makes the host wait.
            labels=torch.cat([labels[position] for position in chosen]),
            weights=torch.full((len(chosen),), weight, device=self.weights.device),
            rows=kept,
            total=len(rows),
            names=tuple(self.names[protein] for protein in used),
        )

    def change(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy of the batch with a function applied to every tensor."""
        tensors: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


class PairData:
    """Labelled pairs together with the embeddings of the proteins in the pairs.

    Attributes:
        table: The pairs.
        store: The embeddings.
        protein_lengths: (P,) the number of embedding rows of each protein in the store.
        residues: (P,) the number of residues of each protein.
    """

    def __init__(self, table: PairTable, store: Store) -> None:
        self.table = table
        self.store = store
        self.protein_lengths: Rows = np.array([store.length(p) for p in table.proteins], np.int64)
        self.residues: Rows = np.array([store.residues(p) for p in table.proteins], np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def with_table(self, table: PairTable) -> Self:
        """Return a copy with other pairs of the same proteins."""
        other = copy.copy(self)
        other.table = table
        return other

    def collate(self, rows: Rows, total: int, stand_in: bool = False) -> PairBatch:
        """Build a batch from rows of the pair table.

        Args:
            rows: Row numbers of the pair table.
            total: The number of pairs in the round, over all processes.
            stand_in: Whether these pairs are stand-ins, with weight 0.
        """
        used, pairs = np.unique(self.table.pairs[rows], return_inverse=True)
        names = tuple(self.table.proteins[i] for i in used)
        return PairBatch(
            proteins=torch.from_numpy(self.store.gather(names)),
            lengths=self.protein_lengths[used],
            pairs=pairs.reshape(-1, 2),
            labels=torch.from_numpy(self.table.labels[rows].astype(np.float32)),
            weights=torch.full((len(rows),), 0.0 if stand_in else 1.0),
            rows=np.full_like(rows, STAND_IN) if stand_in else rows,
            total=total,
            names=names,
        )


@dataclass(frozen=True)
class BatchPlanner:
    """Plans the rounds of every epoch; in each round, every process gets one batch.

    Attributes:
        data: The pairs to plan for.
        sampling: How pairs are sampled: all pairs in random order, or a warm-up and then mining,
            with rounds that are pools from which the hardest pairs are mined.
        round_pairs: The number of pairs of a round without mining, over all processes.
        accumulation: Rounds per optimizer update; the number of rounds of an epoch is a multiple.
        drop_last: Whether to leave out the epoch's last, incomplete update.
        seed: Determines the order of the pairs, together with the epoch.
        resampling: Draws the negatives of every epoch; None if the file's negatives are used.
    """

    data: PairData
    sampling: SamplingConfig
    round_pairs: int
    accumulation: int
    drop_last: bool
    seed: int
    resampling: Resampling | None = None

    @classmethod
    def from_settings(
        cls,
        data: PairData,
        loading: DataloaderConfig,
        training: TrainingConfig,
        processes: int,
        seed: int,
        known: Sequence[PairTable] = (),
    ) -> Self:
        """Create a batch planner from the configuration of a stage.

        Args:
            data: The pairs of the file.
            loading: The configuration of sampling and batches.
            training: The batch size, and the number of batches per optimizer update.
            processes: The number of processes that share a round.
            seed: The seed of the run.
            known: Pairs of other splits, whose positives are never drawn as negatives.

        Raises:
            UserError: Mining is configured but all pairs are of one class, there are fewer pairs
                than rounds in one update, or there are too few pairs to draw negatives from.
        """
        resampling = None
        if loading.sampling.negatives.source == "resampled":
            resampling = Resampling.of(data.table, known, loading.sampling.negatives, seed)
        count = len(resampling or data)
        if count < training.gradient_accumulation_steps:
            raise UserError(
                "training_config.gradient_accumulation_steps"
                f" ({training.gradient_accumulation_steps}) must be at most the number of training"
                f" pairs ({count})"
            )
        one_class = resampling is None and len(np.unique(data.table.labels)) < 2
        if loading.sampling.strategy == "ohem" and one_class:
            raise UserError(
                "data_config.dataloader.sampling.strategy: ohem needs positive and negative"
                " training pairs, but all are of one class; set the strategy to none"
            )
        return cls(
            data,
            loading.sampling,
            training.batch_size * processes,
            training.gradient_accumulation_steps,
            loading.drop_last,
            seed,
            resampling,
        )

    def at(self, epoch: int) -> PairData:
        """Return the pairs of an epoch, to which the row numbers of `rounds` refer."""
        if self.resampling is None:
            return self.data
        return self.data.with_table(self.resampling.at(epoch))

    def mines(self, epoch: int) -> bool:
        """Return whether the hardest pairs are mined in this epoch."""
        return self.sampling.strategy == "ohem" and epoch >= self.sampling.warmup_epochs

    def updates(self, epoch: int) -> int:
        """Return the number of optimizer updates in an epoch."""
        return len(self._round_sizes(epoch)) // self.accumulation

    def rounds(self, epoch: int) -> list[Rows]:
        """Return the row numbers of every round of an epoch, sorted by length within each round."""
        data, rng = self.at(epoch), np.random.default_rng((self.seed, epoch))
        sizes = np.asarray(self._round_sizes(epoch))
        if self.sampling.strategy == "ohem" and not self.mines(epoch):
            orders, counts = self._balance(data.table.labels, rng, sizes)
        else:
            orders, counts = [rng.permutation(len(data))], [sizes]
        parts = [
            np.split(order[: int(count.sum())], np.cumsum(count)[:-1])
            for order, count in zip(orders, counts, strict=True)
        ]
        return [_sort_by_length(data, np.concatenate(part)) for part in zip(*parts, strict=True)]

    def _round_sizes(self, epoch: int) -> list[int]:
        """Return the number of pairs in every round; the last rounds divide the rest evenly."""
        size = self.round_pairs
        if self.mines(epoch):
            size *= self.sampling.pool_multiplier
        full, rest = divmod(len(self.resampling or self.data), size * self.accumulation)
        if self.drop_last and full:
            rest = 0
        last = self.accumulation if rest else 0
        if full and 0 < rest < self.accumulation:
            # The rest is too small for a separate update, in which no round may be empty. The rest
            # and the last full update are divided into two updates, or one if that is too few.
            full, rest = full - 1, rest + size * self.accumulation
            last = self.accumulation * (2 if rest >= 2 * self.accumulation else 1)
        shares = np.array_split(np.arange(rest), last) if last else []
        return [size] * (full * self.accumulation) + [len(share) for share in shares]

    def _balance(
        self, labels: NDArray[np.int8], rng: np.random.Generator, sizes: Rows
    ) -> tuple[list[Rows], list[Rows]]:
        """Return the shuffled rows of both classes, and how many rows of each a round contains.

        Positives and negatives are mixed in the ratio of the warm-up.

        The epoch has as many pairs as without mixing: the class with too few pairs is drawn again
        in a new order, and a part of the other class is left out.
        """
        ratio = self.sampling.warmup_pos_neg_ratio
        # Rounding cumulative counts keeps the ratio over the epoch, though not in every batch.
        positives = np.diff(np.floor(np.cumsum(sizes) * ratio / (1 + ratio) + 0.5), prepend=0)
        counts = [positives.astype(np.int64), sizes - positives.astype(np.int64)]
        orders = [
            cycle(rng, np.flatnonzero(labels == label), int(count.sum()))
            for label, count in zip((1, 0), counts, strict=True)
        ]
        return orders, counts


def _sort_by_length(data: PairData, rows: Rows) -> Rows:
    # Each process takes every `processes`-th pair, so sorting balances the work of the processes.
    lengths = data.residues[data.table.pairs[rows]]
    return rows[np.lexsort((lengths.min(1), lengths.max(1)))]


class RankBatches(Dataset[PairBatch]):
    """A dataset of one process's batches of one epoch; each item is a whole batch."""

    def __init__(self, data: PairData, rounds: Sequence[Rows], rank: int, processes: int) -> None:
        self.data, self.rounds, self.rank, self.processes = data, rounds, rank, processes

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, index: int) -> PairBatch:
        """Return this process's batch of a round: every `processes`-th pair, to mix lengths."""
        rows = self.rounds[index]
        own = rows[self.rank :: self.processes]
        if not len(own):
            return self.data.collate(rows[:1], total=len(rows), stand_in=True)
        return self.data.collate(own, total=len(rows))

    def bytes_of_rounds(self, first: int) -> Rows:
        """Return the size in bytes of the embeddings in each batch from round `first` on."""
        pairs, lengths = self.data.table.pairs, self.data.protein_lengths
        own = [rows[self.rank :: self.processes] for rows in self.rounds[first:]]
        residues = [lengths[np.unique(pairs[rows])].sum() for rows in own]
        row = self.data.store[self.data.table.proteins[0]][:1]
        return np.array(residues, np.int64) * row.nbytes
