"""Which pairs make a batch, in which order, on which rank; and the tensors that a batch is.

A batch holds every protein once, however many of its pairs that protein is in. The order of an
epoch follows from `(seed, epoch)` and the *global* batch (batch_size x processes) alone: one
process, or two with half the batch size, see the same global batches in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.config import DataloaderConfig, SamplingConfig, TrainingConfig
from common.data.embeddings import EmbeddingStore
from common.data.pring import PairTable
from common.errors import UserError

Rows = NDArray[np.int64]

# Pairs are sorted by length within buckets of so many batches: enough that a batch's proteins are
# of like length, few enough that the order stays random.
BUCKET_BATCHES = 64


@dataclass(frozen=True)
class PairBatch:
    """Unique proteins, padded, and the pairs among them.

    Attributes:
        proteins: (U, L, D) residue embeddings in the store's dtype, zero where padded.
        lengths: (U,) residues of each protein.
        pairs: (B, 2) rows of `proteins`.
        labels: (B,) 0.0 or 1.0.
        weights: (B,) 1.0, or 0.0 for a stand-in on a rank that had no pair left.
        rows: (B,) row numbers in the pair table.
        total: Pairs of weight 1 in this round, over all processes.
        names: The U protein ids.
    """

    proteins: Tensor
    lengths: Tensor
    pairs: Tensor
    labels: Tensor
    weights: Tensor
    rows: Tensor
    total: int
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Self:
        """The batch on a device; from pinned memory the copies do not make the host wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The batch in page-locked memory (`DataLoader` calls this)."""
        return self._map(Tensor.pin_memory)

    def keep(self, mask: Tensor, total: int) -> Self:
        """Only the pairs where `mask` (B,) is true, and only their proteins.

        A rank that keeps nothing keeps its first pair at weight 0: it still has to take part in
        the backward pass. `total` is the number of pairs kept over all processes.
        """
        weights = self.weights * mask
        chosen = mask.clone()
        if not bool(mask.any()):
            chosen[0] = True
        used, pairs = torch.unique(self.pairs[chosen], return_inverse=True)
        lengths = self.lengths[used]
        return replace(
            self,
            proteins=self.proteins[used, : int(lengths.max())],
            lengths=lengths,
            pairs=pairs,
            labels=self.labels[chosen],
            weights=weights[chosen],
            rows=self.rows[chosen],
            total=total,
            names=tuple(self.names[i] for i in used.tolist()),
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        tensors: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


class PairData:
    """Labelled pairs together with the embeddings of their proteins."""

    def __init__(self, table: PairTable, store: EmbeddingStore) -> None:
        self.table = table
        self.store = store
        self.protein_lengths: Rows = np.array(
            [store.length(protein) for protein in table.proteins], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self.table)

    def collate(self, rows: Rows, total: int, weights: NDArray[np.float32]) -> PairBatch:
        """The batch of these rows of the table."""
        used, pairs = np.unique(self.table.pairs[rows], return_inverse=True)
        names = tuple(self.table.proteins[i] for i in used)
        proteins, lengths = pad_proteins([self.store[name] for name in names])
        return PairBatch(
            proteins=proteins,
            lengths=lengths,
            pairs=torch.from_numpy(pairs.reshape(-1, 2)),
            labels=torch.from_numpy(self.table.labels[rows].astype(np.float32)),
            weights=torch.from_numpy(weights),
            rows=torch.from_numpy(rows),
            total=total,
            names=names,
        )


def pad_proteins(embeddings: Sequence[NDArray[np.generic]]) -> tuple[Tensor, Tensor]:
    """Stack (length, D) embeddings to (U, L, D), zero where padded, and their lengths (U,)."""
    lengths = [len(embedding) for embedding in embeddings]
    shape = (len(embeddings), max(lengths), embeddings[0].shape[1])
    padded = np.zeros(shape, dtype=embeddings[0].dtype)
    for row, embedding in zip(padded, embeddings, strict=True):
        row[: len(embedding)] = embedding
    return torch.from_numpy(padded), torch.tensor(lengths)


@dataclass(frozen=True)
class BatchPlanner:
    """Plans the rounds of every epoch; in a round each process has one batch.

    Attributes:
        data: The pairs to plan for.
        sampling: Plain, or warm-up and mining (then a round is a pool to mine from).
        round_pairs: Pairs that a plain round trains on, over all processes.
        accumulation: Rounds per optimizer update; an epoch's rounds are a multiple of it.
        drop_last: Drop the epoch's last, incomplete update.
        seed: With the epoch it determines the order.
    """

    data: PairData
    sampling: SamplingConfig
    round_pairs: int
    accumulation: int
    drop_last: bool
    seed: int

    @classmethod
    def from_settings(
        cls,
        data: PairData,
        loading: DataloaderConfig,
        training: TrainingConfig,
        processes: int,
        seed: int,
    ) -> Self:
        """The planner that a stage's configuration asks for.

        Raises:
            UserError: Warm-up and mining are asked for but the pairs are of one class only.
        """
        if loading.sampling.strategy == "ohem" and len(np.unique(data.table.labels)) < 2:
            raise UserError(
                "data_config.dataloader.sampling.strategy: ohem needs positive and negative"
                " training pairs, but all are of one class; set it to none"
            )
        return cls(
            data,
            loading.sampling,
            training.batch_size * processes,
            training.gradient_accumulation_steps,
            loading.drop_last,
            seed,
        )

    def mines(self, epoch: int) -> bool:
        """Whether the rounds of an epoch are pools to mine the hardest pairs from."""
        return self.sampling.strategy == "ohem" and epoch >= self.sampling.warmup_epochs

    def updates(self, epoch: int) -> int:
        """Optimizer updates in an epoch."""
        return len(self._round_sizes(epoch)) // self.accumulation

    def rounds(self, epoch: int) -> list[Rows]:
        """The global batches of an epoch, each sorted by length."""
        rng = np.random.default_rng((self.seed, epoch))
        sizes = self._round_sizes(epoch)
        if self.sampling.strategy == "ohem" and not self.mines(epoch):
            return self._balanced_rounds(rng, sizes)
        order = rng.permutation(len(self.data))
        return self._bucketed([order], [np.asarray(sizes)], rng)

    def _round_sizes(self, epoch: int) -> list[int]:
        """How many pairs each round has: full ones, then one update that shares the rest evenly."""
        size = self.round_pairs
        if self.mines(epoch):
            size *= self.sampling.pool_multiplier
        update = size * self.accumulation
        full, rest = divmod(len(self.data), update)
        sizes = [size] * (full * self.accumulation)
        if rest and not (self.drop_last and full):
            sizes += [len(part) for part in np.array_split(np.arange(rest), self.accumulation)]
        return sizes

    def _balanced_rounds(self, rng: np.random.Generator, sizes: list[int]) -> list[Rows]:
        """Rounds with positives and negatives in the warm-up's ratio.

        An epoch is as long as a plain one; the class that runs short is drawn again in a fresh
        order, the other is left out in part.
        """
        ratio = self.sampling.warmup_pos_neg_ratio
        shares = np.asarray(sizes)
        # Cumulative rounding: the ratio holds over the epoch even where it cannot in one batch.
        positives = np.diff(np.floor(np.cumsum(shares) * ratio / (1 + ratio) + 0.5), prepend=0)
        positives = positives.astype(np.int64)
        labels = self.data.table.labels
        orders = [
            _cycle(rng, np.flatnonzero(labels == label), int(counts.sum()))
            for label, counts in ((1, positives), (0, shares - positives))
        ]
        return self._bucketed(orders, [positives, shares - positives], rng)

    def _bucketed(
        self, orders: list[Rows], counts: list[NDArray[np.int64]], rng: np.random.Generator
    ) -> list[Rows]:
        """Cut each class's order into rounds of like length, bucket by bucket.

        `orders` and `counts` have one entry per class; round i takes `counts[c][i]` rows of
        class c. Full rounds are shuffled at the end; the last update stays last.
        """
        rounds = []
        for start in range(0, len(counts[0]), BUCKET_BATCHES):
            bucket = slice(start, start + BUCKET_BATCHES)
            pieces = []
            for order, count in zip(orders, counts, strict=True):
                before = int(count[:start].sum())
                rows = order[before : before + int(count[bucket].sum())]
                pieces.append(np.split(self._sort_by_length(rows), np.cumsum(count[bucket])[:-1]))
            rounds += [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        incomplete = len(rounds[-1]) != len(rounds[0])
        shuffled = rng.permutation(len(rounds) - self.accumulation * incomplete)
        return [rounds[i] for i in shuffled] + rounds[len(shuffled) :]

    def _sort_by_length(self, rows: Rows) -> Rows:
        lengths = self.data.protein_lengths[self.data.table.pairs[rows]]
        return rows[np.lexsort((lengths.min(1), lengths.max(1)))]


def _cycle(rng: np.random.Generator, rows: Rows, count: int) -> Rows:
    """`count` rows: whole permutations of `rows` one after the other, the last one cut."""
    repeats = -(-count // len(rows)) if count else 1
    return np.concatenate([rng.permutation(rows) for _ in range(repeats)])[:count]


class RankBatches(Dataset[PairBatch]):
    """One rank's batches of one epoch, as a dataset whose items are whole batches."""

    def __init__(self, data: PairData, rounds: Sequence[Rows], rank: int, processes: int) -> None:
        self.data, self.rounds, self.rank, self.processes = data, rounds, rank, processes

    def __len__(self) -> int:
        return len(self.rounds)

    def __getitem__(self, index: int) -> PairBatch:
        """This rank's share of a round: every `processes`-th pair, which shares out the lengths."""
        rows = self.rounds[index]
        own = rows[self.rank :: self.processes]
        weights = np.ones(len(own), dtype=np.float32)
        if not len(own):
            own, weights = rows[:1], np.zeros(1, dtype=np.float32)
        return self.data.collate(own, total=len(rows), weights=weights)


def load_batches(
    batches: RankBatches, settings: DataloaderConfig, first: int = 0
) -> Iterator[PairBatch]:
    """Iterate over a rank's batches, from round `first` on, with the configured workers."""
    loader: DataLoader[PairBatch] = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=settings.num_workers,
        pin_memory=settings.pin_memory and torch.cuda.is_available(),
        # Its own generator: drawing the workers' seeds from the global one would make an
        # interrupted run differ from an uninterrupted one.
        generator=torch.Generator(),
    )
    return iter(loader)


def padding_share(data: PairData, rounds: Sequence[Rows], processes: int) -> float:
    """The share of residue positions that is padding, over an epoch's batches."""
    real = padded = 0
    for rows in rounds:
        for rank in range(processes):
            own = rows[rank::processes]
            lengths = data.protein_lengths[np.unique(data.table.pairs[own])]
            real += int(lengths.sum())
            padded += len(lengths) * int(lengths.max(initial=0))
    return 1 - real / padded if padded else 0.0
