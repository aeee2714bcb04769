"""Which pairs make a batch, in which order, on which rank; and the tensors that a batch is.

A batch holds every protein once, however many of its pairs that protein is in, and holds no
padding: its proteins' residues lie end to end. So lengths have no say in what is batched together.
The order of an epoch follows from `(seed, epoch)` and the *global* batch (batch_size x processes)
alone: one process, or two with half the batch size, see the same global batches in the same order.
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

from common.config import Batching, DataloaderConfig, SamplingConfig, TrainingConfig
from common.data.embeddings.build import EmbeddingStore
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.pausing import outlive_signals

Rows = NDArray[np.int64]

# Hub-aware batches hold so many pairs of a hub at a time: enough to encode far fewer proteins, few
# enough that a batch has several hubs.
HUB_PAIRS = 8


@dataclass(frozen=True)
class PairBatch:
    """Unique proteins and the pairs among them.

    Attributes:
        proteins: (R, D) residue embeddings of U proteins, laid end to end, in the store's dtype.
        lengths: (U,) residues of each protein. Like `pairs` it stays on the host, where shapes
            are planned; from a GPU it would have to be fetched, and the host to wait.
        pairs: (B, 2) which of the U proteins each pair has.
        labels: (B,) 0.0 or 1.0.
        weights: (B,) 1.0, or 0.0 for a stand-in on a rank that had no pair left.
        rows: (B,) row numbers in the pair table.
        total: Pairs of weight 1 in this round, over all processes.
        names: The U protein ids.
    """

    proteins: Tensor
    lengths: Rows
    pairs: Rows
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
        chosen = np.flatnonzero(mask.cpu().numpy())
        weights = self.weights * mask
        if not len(chosen):
            chosen = np.zeros(1, dtype=np.int64)
        used, pairs = np.unique(self.pairs[chosen], return_inverse=True)
        residues = self.proteins.split(self.lengths.tolist())
        index = torch.from_numpy(chosen).to(self.labels.device)
        return replace(
            self,
            proteins=torch.cat([residues[protein] for protein in used]),
            lengths=self.lengths[used],
            pairs=pairs.reshape(-1, 2),
            labels=self.labels[index],
            weights=weights[index],
            rows=self.rows[index],
            total=total,
            names=tuple(self.names[protein] for protein in used),
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
        return PairBatch(
            proteins=torch.from_numpy(np.concatenate([self.store[name] for name in names])),
            lengths=self.protein_lengths[used],
            pairs=pairs.reshape(-1, 2),
            labels=torch.from_numpy(self.table.labels[rows].astype(np.float32)),
            weights=torch.from_numpy(weights),
            rows=torch.from_numpy(rows),
            total=total,
            names=names,
        )


@dataclass(frozen=True)
class BatchPlanner:
    """Plans the rounds of every epoch; in a round each process has one batch.

    Attributes:
        data: The pairs to plan for.
        sampling: Plain, or warm-up and mining (then a round is a pool to mine from).
        batching: Which pairs share a round: any (shuffled), or some of the same protein (hub).
        round_pairs: Pairs that a plain round trains on, over all processes.
        accumulation: Rounds per optimizer update; an epoch's rounds are a multiple of it.
        drop_last: Drop the epoch's last, incomplete update.
        seed: With the epoch it determines the order.
    """

    data: PairData
    sampling: SamplingConfig
    batching: Batching
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
            UserError: Warm-up and mining are asked for but the pairs are of one class only, or
                there are fewer pairs than one update takes rounds.
        """
        if len(data) < training.gradient_accumulation_steps:
            raise UserError(
                "training_config.gradient_accumulation_steps"
                f" ({training.gradient_accumulation_steps}) must be at most the number of training"
                f" pairs ({len(data)})"
            )
        if loading.sampling.strategy == "ohem" and len(np.unique(data.table.labels)) < 2:
            raise UserError(
                "data_config.dataloader.sampling.strategy: ohem needs positive and negative"
                " training pairs, but all are of one class; set it to none"
            )
        return cls(
            data,
            loading.sampling,
            loading.batching,
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
        sizes = np.asarray(self._round_sizes(epoch))
        if self.sampling.strategy == "ohem" and not self.mines(epoch):
            orders, counts = self._balance(rng, sizes)
        else:
            orders, counts = [rng.permutation(len(self.data))], [sizes]
        if self.batching == "hub":
            orders = [self._gather_hubs(order, rng) for order in orders]
        parts = [
            np.split(order[: int(count.sum())], np.cumsum(count)[:-1])
            for order, count in zip(orders, counts, strict=True)
        ]
        return [self._sort_by_length(np.concatenate(part)) for part in zip(*parts, strict=True)]

    def _round_sizes(self, epoch: int) -> list[int]:
        """How many pairs each round has: full ones, then one update that shares the rest evenly."""
        size = self.round_pairs
        if self.mines(epoch):
            size *= self.sampling.pool_multiplier
        full, rest = divmod(len(self.data), size * self.accumulation)
        if self.drop_last and full:
            rest = 0
        last = self.accumulation if rest else 0
        if full and 0 < rest < self.accumulation:
            # Too few for an update of their own, of which no round may be empty: they go with the
            # last full one into two updates or, in the smallest batches, into one.
            full, rest = full - 1, rest + size * self.accumulation
            last = self.accumulation * (2 if rest >= 2 * self.accumulation else 1)
        shares = np.array_split(np.arange(rest), last) if last else []
        return [size] * (full * self.accumulation) + [len(share) for share in shares]

    def _balance(self, rng: np.random.Generator, sizes: Rows) -> tuple[list[Rows], list[Rows]]:
        """Positives and negatives in the warm-up's ratio: orders, and counts for each round.

        An epoch is as long as a plain one; the class that runs short is drawn again in a fresh
        order, the other is left out in part.
        """
        ratio = self.sampling.warmup_pos_neg_ratio
        # Cumulative rounding: the ratio holds over the epoch even where it cannot in one batch.
        positives = np.diff(np.floor(np.cumsum(sizes) * ratio / (1 + ratio) + 0.5), prepend=0)
        counts = [positives.astype(np.int64), sizes - positives.astype(np.int64)]
        labels = self.data.table.labels
        orders = [
            _cycle(rng, np.flatnonzero(labels == label), int(count.sum()))
            for label, count in zip((1, 0), counts, strict=True)
        ]
        return orders, counts

    def _gather_hubs(self, order: Rows, rng: np.random.Generator) -> Rows:
        """The same rows, with up to `HUB_PAIRS` pairs of the same protein next to each other.

        A pair counts to its protein of more pairs. Within a protein, and between the groups, the
        order stays random.
        """
        if not len(order):
            return order
        pairs = self.data.table.pairs[order]
        degrees = np.bincount(pairs.ravel(), minlength=len(self.data.table.proteins))
        hubs = np.where(degrees[pairs[:, 0]] >= degrees[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
        by_hub = np.argsort(hubs, kind="stable")
        hubs = hubs[by_hub]
        position = np.arange(len(hubs)) - np.searchsorted(hubs, hubs)
        group = np.cumsum(position % HUB_PAIRS == 0) - 1
        place = rng.permutation(int(group[-1]) + 1)[group]
        return order[by_hub[np.argsort(place, kind="stable")]]

    def _sort_by_length(self, rows: Rows) -> Rows:
        # Ranks take every so-manieth pair: sorted, they get about the same work.
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
        worker_init_fn=outlive_signals,
        pin_memory=settings.pin_memory and torch.cuda.is_available(),
        # Its own generator: drawing the workers' seeds from the global one would make an
        # interrupted run differ from an uninterrupted one.
        generator=torch.Generator(),
    )
    return iter(loader)
