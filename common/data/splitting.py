"""Divides an interaction network: draws test proteins, labelled pairs and node sets.

The procedure is PRING's: a walk over the network chooses the test proteins, pairs between a test
protein and another protein are dropped, and every split gets as many negative pairs as it has
interactions. Proteins are numbers here, and a network is a symmetric matrix or the list of every
protein's neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from common.config_data import Strategy

Matrix = npt.NDArray[np.bool_]
Pairs = npt.NDArray[np.int64]
Neighbours = Sequence[Sequence[int]]

# A single long walk over a real network would take whole protein families.
_WALK_LENGTH = 20
# A group of similar proteins that is larger than this fraction of val or test stays in train.
_LARGEST_GROUP = 0.25
_MOST_STEPS = 1000  # the length of a random walk, including returns to visited nodes


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
        """The positive pairs (P, 2)."""
        positives: Pairs = self.pairs[self.labels == 1]
        return positives


def draw_test_proteins(
    neighbours: Neighbours,
    count: int,
    strategy: Strategy,
    rng: np.random.Generator,
    walk_length: int | None = None,
) -> Pairs:
    """Draw `count` test proteins by walks over the network; return their sorted numbers.

    A single long walk takes whole protein families, which training then lacks; with `walk_length`,
    a new walk starts after that many nodes.
    """
    return np.sort(np.array(_walk_over(neighbours, strategy, count, walk_length, rng)))


def draw_sides(
    positives: Pairs,
    groups: Pairs,
    shares: tuple[float, float],
    strategy: Strategy,
    rng: np.random.Generator,
) -> Pairs:
    """Assign every protein to a split (n,): 0 for train, 1 for val, 2 for test.

    Args:
        positives: (P, 2) the interactions.
        groups: (n,) the group of each protein; proteins of one group go to the same split.
        shares: The fractions of the proteins that go to val and to test.
        strategy: The kind of walk that draws the proteins of val and test.
        rng: The random generator.
    """
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(groups)
    edges = np.unique(np.sort(groups[positives], axis=1), axis=0)
    side = np.zeros(len(sizes), np.int64)
    for number in (2, 1):
        wanted = shares[number - 1] * len(groups)
        free = np.flatnonzero((side == 0) & (sizes <= max(1.0, _LARGEST_GROUP * wanted)))
        count = min(len(free), round(wanted / sizes[free].mean())) if len(free) else 0
        neighbours = neighbours_of(edges, free)
        if count:
            side[free[draw_test_proteins(neighbours, count, strategy, rng, _WALK_LENGTH)]] = number
    return side[groups]


def neighbours_of(edges: Pairs, members: Pairs) -> list[list[int]]:
    """Return every member's neighbours among the members, as indices into `members`."""
    places = np.full(max(edges.max(initial=0), members.max(initial=0)) + 1, -1)
    places[members] = np.arange(len(members))
    neighbours: list[list[int]] = [[] for _ in members]
    for a, b in places[edges].tolist():
        if a != b and a >= 0 and b >= 0:
            neighbours[a].append(b)
            neighbours[b].append(a)
    return neighbours


def draw_pairs(
    binds: Matrix,
    members: Pairs,
    rng: np.random.Generator,
    most: int | None = None,
    plausible: Matrix | None = None,
    plausible_share: float = 0.0,
) -> LabelledPairs:
    """Draw labelled pairs of some proteins in random order, half of them positive.

    Args:
        binds: Which proteins interact, as a symmetric matrix.
        members: Sorted numbers of the proteins.
        rng: The random generator.
        most: The maximum number of positive pairs, self-pairs first; None keeps all.
        plausible: Pairs that may interact although `binds` does not say so. Such pairs would
            mislead the model as negatives, so only `plausible_share` of the negatives are drawn
            from these pairs.
        plausible_share: The fraction of the negatives that are plausible pairs.
    """
    rows, columns = np.triu_indices(len(members))
    a, b = members[rows], members[columns]
    positive = np.flatnonzero(binds[a, b])
    if most is not None and len(positive) > most:
        itself, others = positive[(a == b)[positive]], positive[(a != b)[positive]]
        others = rng.choice(others, size=max(0, most - len(itself)), replace=False)
        positive = np.concatenate([itself, others])
    free = ~binds[a, b] & (a != b)
    doubtful = np.zeros_like(free) if plausible is None else plausible[a, b]
    few = round(plausible_share * len(positive))
    negative = [
        rng.choice(np.flatnonzero(free & ~doubtful), len(positive) - few, replace=False),
        rng.choice(np.flatnonzero(free & doubtful), few, replace=False),
    ]
    chosen = rng.permutation(np.concatenate([positive, *negative]))
    labels = binds[a, b][chosen].astype(np.int64)
    return LabelledPairs(np.stack([a[chosen], b[chosen]], axis=1), labels)


def draw_node_sets(
    neighbours: Neighbours,
    sizes: Sequence[int],
    number: int,
    strategy: Strategy,
    rng: np.random.Generator,
) -> dict[int, list[list[int]]]:
    """Draw `number` node sets of every size up to the network's size, each from a new walk."""
    return {
        size: [sorted(_walk_over(neighbours, strategy, size, None, rng)) for _ in range(number)]
        for size in sizes
        if size <= len(neighbours)
    }


def list_neighbours(binds: Matrix) -> list[list[int]]:
    """Return the neighbours of each node, without the node itself."""
    return [[int(b) for b in np.flatnonzero(row) if b != a] for a, row in enumerate(binds)]


def _walk_over(
    neighbours: Neighbours,
    strategy: Strategy,
    count: int,
    walk_length: int | None,
    rng: np.random.Generator,
) -> list[int]:
    """Draw `count` distinct nodes by walks of at most `walk_length` nodes each."""
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
    neighbours: Neighbours, start: int, rng: np.random.Generator
) -> Iterator[int]:
    queue, seen = [start], {start}
    for node in queue:  # the queue grows in the loop
        yield node
        fresh = [other for other in neighbours[node] if other not in seen]
        seen.update(fresh)
        queue += (fresh[place] for place in rng.permutation(len(fresh)))


def _walk_depth_first(
    neighbours: Neighbours, start: int, rng: np.random.Generator
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


def _walk_at_random(neighbours: Neighbours, start: int, rng: np.random.Generator) -> Iterator[int]:
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
