"""Samples pairs to estimate the density of the network that a threshold predicts.

A predicted network is evaluated on node sets that walks draw. Interactions are many times denser in
such node sets than among all pairs; predicted interactions are denser too, but less so. A threshold
is therefore fitted on node sets drawn by the same kind of walk, in the benchmark's sizes, from the
network of proteins that no training pair contains. A random sample of each set's pairs is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config_data import Strategy
from common.data.held_out import HeldOut, Places
from common.data.negatives import contains, encode_pairs
from common.data.splitting import draw_node_sets, neighbours_of
from common.data.tables.pairs import PairTable
from common.errors import UserError

# PRING's node sizes.
SIZES = tuple(range(20, 201, 20))
SETS_PER_SIZE = 10
MOST_PAIRS = 50_000
_STREAM = 3  # makes the draws independent of others with the same seed


@dataclass(frozen=True, eq=False)
class NetworkSample:
    """A sample of held-out pairs, with weights to estimate the density of a predicted network.

    Attributes:
        table: The distinct pairs, and whether they interact.
        weights: (K, N) the weight of each pair in each of K densities; a density is the sum of the
            weights of all pairs that are predicted to interact.
    """

    table: PairTable
    weights: NDArray[np.float64]


def sample_pairs(held_out: HeldOut, seed: int) -> NetworkSample:
    """Sample from all held-out pairs, to estimate the fraction that is predicted to interact."""
    count = len(held_out.proteins)
    every = np.stack(np.triu_indices(count), axis=1)
    rng = np.random.default_rng((seed, 0, _STREAM))
    rows = np.sort(rng.permutation(len(every))[:MOST_PAIRS])
    weights = np.full((1, len(rows)), 1 / len(rows))
    return NetworkSample(_label(held_out, encode_pairs(every[rows], count)), weights)


def sample_walks(held_out: HeldOut, strategies: Sequence[Strategy], seed: int) -> NetworkSample:
    """Sample pairs from node sets, to estimate the ratio of predicted to true interactions.

    As in the topology task, the ratio is averaged over the sets of each size, and then over the
    sizes, for each kind of walk. Sets without an interaction are left out.

    Raises:
        UserError: A kind of walk draws no set with an interaction.
    """
    count = len(held_out.proteins)
    rng = np.random.default_rng((seed, 0, _STREAM))
    neighbours = neighbours_of(held_out.edges, np.arange(count))
    true = np.sort(encode_pairs(held_out.edges, count))
    sizes = [size for size in SIZES if size <= count] or [count]
    codes, weights = [], []
    for strategy in strategies:
        drawn = draw_node_sets(neighbours, sizes, SETS_PER_SIZE, strategy, rng)
        most = MOST_PAIRS // (len(strategies) * len(sizes) * SETS_PER_SIZE)
        parts = [_sample_size(sets, count, true, most, rng) for sets in drawn.values()]
        parts = [part for part in parts if len(part[0])]
        if not parts:
            raise UserError(
                f"{strategy} walks find no set of {sizes[0]} to {sizes[-1]} held-out proteins with"
                " an interaction; raise data_config.validation.fraction"
            )
        codes.append(np.concatenate([part[0] for part in parts]))
        weights.append(np.concatenate([part[1] for part in parts]) / len(parts))
    distinct = np.unique(np.concatenate(codes))
    summed = [
        np.bincount(np.searchsorted(distinct, each), weight, len(distinct))
        for each, weight in zip(codes, weights, strict=True)
    ]
    return NetworkSample(_label(held_out, distinct), np.stack(summed))


def _sample_size(
    sets: Sequence[Sequence[int]], count: int, true: Places, most: int, rng: np.random.Generator
) -> tuple[Places, NDArray[np.float64]]:
    """Sample pairs from every node set of one size; return the pairs as codes, and weights."""
    codes, weights = [np.empty(0, np.int64)], [np.empty(0)]
    for members in sets:
        nodes = np.array(members)
        rows = np.stack(np.triu_indices(len(nodes)), axis=1)
        every = encode_pairs(nodes[rows], count)
        edges = int(contains(true, every).sum())
        if edges:
            codes.append(rng.permutation(every)[:most])
            weights.append(np.full(len(codes[-1]), len(every) / len(codes[-1]) / edges))
    return np.concatenate(codes), np.concatenate(weights) / max(1, len(weights) - 1)


def _label(held_out: HeldOut, codes: Places) -> PairTable:
    """Decode pairs of held-out proteins, and return a table of these pairs with labels."""
    count = len(held_out.proteins)
    labels = contains(np.sort(encode_pairs(held_out.edges, count)), codes).astype(np.int8)
    return PairTable(held_out.proteins, np.stack(np.divmod(codes, count), axis=1), labels)
