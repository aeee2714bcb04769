"""Scores of many pairs: every protein encoded once, pairs in tiles of like length.

What a tile or an encoding batch holds follows from the pairs alone, never from the number of
processes; ranks share the tiles and nothing else. So one process and two compute the same numbers
from the same tensors, and a figure is the same to the last bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor
from tqdm import tqdm

from common.config import ScoringConfig
from common.data.batches import PairData, Rows, pad_proteins
from common.models.base import PairModel

GIB = 2**30


def score_pairs(
    model: PairModel,
    data: PairData,
    settings: ScoringConfig,
    accelerator: Accelerator,
    describe: str = "scoring",
) -> NDArray[np.float32]:
    """Logits (N,) of all pairs of `data`, in their order, complete on every process.

    Args:
        model: The unwrapped model; it is put into eval mode for the time.
        data: Pairs and embeddings.
        settings: Sizes of tiles and of the memory for states.
        accelerator: Tells the rank, the device and the precision.
        describe: What the progress bar is called.
    """
    was_training = model.training
    model.train(False)
    logits = torch.zeros(len(data), device=accelerator.device)
    tiles = plan_tiles(data, settings.tile_residues)
    own = tiles[accelerator.process_index :: accelerator.num_processes]
    with torch.inference_mode(), accelerator.autocast():
        states = encode_proteins(model, data, own, settings, accelerator.device)
        bar = tqdm(
            total=len(data), desc=describe, unit=" pairs", leave=False,
            disable=None if accelerator.is_main_process else True,
        )  # fmt: skip
        for rows in own:
            logits[torch.from_numpy(rows).to(logits.device)] = score_tile(model, data, states, rows)
            bar.update(len(rows) * accelerator.num_processes)
        bar.close()
    model.train(was_training)
    # Every pair was scored by one rank and is zero on the others: their sum is exact.
    total = accelerator.reduce(logits, reduction="sum")
    scores: NDArray[np.float32] = total.cpu().numpy()
    return scores


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability of an interaction for each logit, in float64: float32 would tie the top."""
    scores: NDArray[np.float64] = expit(logits.astype(np.float64))
    return scores


def plan_tiles(data: PairData, tile_residues: int) -> list[Rows]:
    """Cut the pairs into tiles of at most `tile_residues` padded residues, costliest first.

    Pairs are sorted by their longer and then their shorter protein. Dealt out in turn, tiles of
    falling cost give every rank about the same work.
    """
    lengths = data.protein_lengths[data.table.pairs]
    long, short = lengths.max(1), lengths.min(1)
    order = np.lexsort((short, long))[::-1]
    tiles = []
    start = 0
    while start < len(order):
        # Both sides are padded to at most the longest protein of the tile, its first.
        size = max(1, tile_residues // (2 * int(long[order[start]])))
        tiles.append(np.ascontiguousarray(order[start : start + size]))
        start += size
    return tiles


@dataclass(frozen=True)
class ProteinStates:
    """The encoded proteins, their rows laid end to end.

    Attributes:
        rows: (R, d) states of all proteins.
        starts: (P,) first row of each protein of the table; -1 where it was not needed.
        lengths: (P,) rows of each protein.
        spill: Keeps the memory map's folder alive where the states exceeded the memory budget.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    spill: tempfile.TemporaryDirectory[str] | None = None

    def gather(self, proteins: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Padded states (B, S, d) and lengths (B,) of these proteins of the table."""
        lengths = self.lengths[proteins]
        steps = torch.arange(int(lengths.max()))
        # Beyond a protein's end its last row is repeated: finite, and masked by the lengths.
        index = self.starts[proteins][:, None] + steps.minimum(lengths[:, None] - 1)
        states = self.rows[index.to(self.rows.device)]
        return states.to(device), lengths.to(device)


def score_tile(model: PairModel, data: PairData, states: ProteinStates, rows: Rows) -> Tensor:
    """Logits (B,) of one tile, on the model's device."""
    pairs = torch.from_numpy(data.table.pairs[rows])
    states_a, lengths_a = states.gather(pairs[:, 0], model.device)
    states_b, lengths_b = states.gather(pairs[:, 1], model.device)
    return model.interact(states_a, lengths_a, states_b, lengths_b).float()


def encode_proteins(
    model: PairModel,
    data: PairData,
    tiles: Sequence[Rows],
    settings: ScoringConfig,
    device: torch.device,
) -> ProteinStates:
    """Encode every protein that the tiles need, once."""
    batches = list(_encoding_batches(data, tiles, settings.tile_residues))
    lengths = model.state_lengths(torch.from_numpy(data.protein_lengths))
    starts = torch.full_like(lengths, -1)
    if batches:
        needed = torch.from_numpy(np.concatenate(batches))
        ends = lengths[needed].cumsum(0)
        starts[needed] = ends - lengths[needed]
    states: ProteinStates | None = None
    for proteins in batches:
        encoded, real = _encode_batch(model, data, proteins, device)
        if states is None:
            rows, spill = _allocate(int(ends[-1]), encoded, settings.memory_gib)
            states = ProteinStates(rows, starts, lengths, spill)
        first = int(starts[int(proteins[0])])
        flat = torch.cat([state[:n] for state, n in zip(encoded, real.tolist(), strict=True)])
        states.rows[first : first + len(flat)] = flat.to(states.rows.device)
    return states or ProteinStates(torch.empty(0), starts, lengths)


def _encode_batch(
    model: PairModel, data: PairData, proteins: Rows, device: torch.device
) -> tuple[Tensor, Tensor]:
    padded, lengths = pad_proteins([data.store[data.table.proteins[i]] for i in proteins])
    encoded = model.encode(padded.to(device), lengths.to(device))
    return encoded, model.state_lengths(lengths)


def _encoding_batches(data: PairData, tiles: Sequence[Rows], budget: int) -> Iterator[Rows]:
    """Batches of proteins of like length, those of which some tile needs a protein.

    The batches are cut over all proteins of the table, so that a protein is encoded among the
    same neighbours on any number of processes.
    """
    order = np.argsort(data.protein_lengths, kind="stable")[::-1]
    needed = np.zeros(len(order), dtype=bool)
    for rows in tiles:
        needed[data.table.pairs[rows]] = True
    start = 0
    while start < len(order):
        size = max(1, budget // int(data.protein_lengths[order[start]]))
        batch = np.ascontiguousarray(order[start : start + size])
        if needed[batch].any():
            yield batch
        start += size


def _allocate(
    rows: int, like: Tensor, memory_gib: float
) -> tuple[Tensor, tempfile.TemporaryDirectory[str] | None]:
    """Room for `rows` states: on the model's device, or in a memory map when over the budget."""
    width = like.shape[-1]
    size = rows * width * like.element_size()
    if size <= memory_gib * GIB:
        return like.new_empty((rows, width)), None
    spill = tempfile.TemporaryDirectory(prefix="relic-states-")
    path = str(Path(spill.name) / "states.bin")
    mapped = torch.from_file(path, shared=True, size=rows * width, dtype=like.dtype)
    return mapped.view(rows, width), spill
