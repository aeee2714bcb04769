"""How the synthetic benchmark divides its network: test proteins, labelled pairs, node sets.

The procedure is PRING's: a walk over the network chooses the test proteins, pairs between the two
sides are dropped, and every side gets as many negative pairs as it has interactions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from common.config import Strategy
from common.data.benchmarks.demo.world import DemoSpec, Matrix, Network, Pairs

_MOST_STEPS = 1000  # of a random walk that finds nothing new any more


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs (N, 2) of protein numbers, the smaller first, and their labels (N,)."""

    pairs: Pairs
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> LabelledPairs:
        return LabelledPairs(self.pairs[rows], self.labels[rows])

    @property
    def positives(self) -> Pairs:
        """The pairs (P, 2) that interact."""
        positives: Pairs = self.pairs[self.labels == 1]
        return positives


def draw_test_proteins(
    spec: DemoSpec, binds: Matrix, strategy: Strategy, rng: np.random.Generator
) -> Pairs:
    """The numbers of the test proteins, sorted.

    The walk starts anew every `walk_length` nodes: an unbroken one swallows whole families, which
    the train side then never shows.
    """
    count = round(spec.test_share * len(binds))
    drawn = _walk_over(list_neighbours(binds), strategy, count, spec.walk_length, rng)
    return np.sort(np.array(drawn))


def draw_pairs(
    network: Network,
    members: Pairs,
    noise: float,
    rng: np.random.Generator,
    most: int | None = None,
) -> LabelledPairs:
    """The labelled pairs among some proteins, shuffled, half of them positive.

    Args:
        network: Who can bind whom, and who does.
        members: Numbers of the proteins, sorted.
        noise: Share of the negatives that could bind but do not. The others cannot bind: a pair
            that could and merely does not would teach against the rule.
        rng: Draws them.
        most: Keep no more positive pairs than this, self-pairs first; None keeps all.
    """
    rows, columns = np.triu_indices(len(members))
    a, b = members[rows], members[columns]
    binds, can_bind = network.binds[a, b], network.can_bind[a, b]
    positive = np.flatnonzero(binds)
    if most is not None and len(positive) > most:
        itself, others = positive[(a == b)[positive]], positive[(a != b)[positive]]
        others = rng.choice(others, size=max(0, most - len(itself)), replace=False)
        positive = np.concatenate([itself, others])
    free = ~binds & (a != b)
    contrary = round(noise * len(positive))
    negative = np.concatenate(
        [
            rng.choice(np.flatnonzero(free & ~can_bind), len(positive) - contrary, replace=False),
            rng.choice(np.flatnonzero(free & can_bind), contrary, replace=False),
        ]
    )
    chosen = rng.permutation(np.concatenate([positive, negative]))
    return LabelledPairs(np.stack([a[chosen], b[chosen]], axis=1), binds[chosen].astype(np.int64))


def draw_node_sets(
    spec: DemoSpec, binds: Matrix, strategy: Strategy, rng: np.random.Generator
) -> dict[int, list[list[int]]]:
    """Sets of nodes of every size, each from walks over the network `binds`; each set sorted."""
    neighbours = list_neighbours(binds)
    return {
        size: [
            sorted(_walk_over(neighbours, strategy, size, None, rng))
            for _ in range(spec.sets_per_size)
        ]
        for size in spec.set_sizes
        if size <= len(binds)
    }


def list_neighbours(binds: Matrix) -> list[list[int]]:
    """The numbers of each node's neighbours, itself left out."""
    return [[int(b) for b in np.flatnonzero(row) if b != a] for a, row in enumerate(binds)]


def _walk_over(
    neighbours: Sequence[Sequence[int]],
    strategy: Strategy,
    count: int,
    walk_length: int | None,
    rng: np.random.Generator,
) -> list[int]:
    """`count` distinct nodes, from walks of at most `walk_length` nodes each."""
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        fresh = [node for node in range(len(neighbours)) if node not in drawn]
        start = int(rng.choice(fresh))
        for node in islice(_WALKS[strategy](neighbours, start, rng), walk_length):
            drawn.setdefault(node)
            if len(drawn) == count:
                break
    return list(drawn)


def _walk_breadth_first(
    neighbours: Sequence[Sequence[int]], start: int, rng: np.random.Generator
) -> Iterator[int]:
    queue, seen = [start], {start}
    for node in queue:  # grows meanwhile
        yield node
        fresh = [other for other in neighbours[node] if other not in seen]
        seen.update(fresh)
        queue += (fresh[place] for place in rng.permutation(len(fresh)))


def _walk_depth_first(
    neighbours: Sequence[Sequence[int]], start: int, rng: np.random.Generator
) -> Iterator[int]:
    stack, seen = [start], set[int]()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        fresh = [other for other in neighbours[node] if other not in seen]
        stack += (fresh[place] for place in rng.permutation(len(fresh)))


def _walk_at_random(
    neighbours: Sequence[Sequence[int]], start: int, rng: np.random.Generator
) -> Iterator[int]:
    node, seen = start, {start}
    yield start
    for _ in range(_MOST_STEPS):
        if not neighbours[node]:
            return
        node = neighbours[node][int(rng.integers(len(neighbours[node])))]
        if node not in seen:
            seen.add(node)
            yield node


_WALKS = {"BFS": _walk_breadth_first, "DFS": _walk_depth_first, "RANDOM_WALK": _walk_at_random}
