"""Derives complexes, GO-like terms and essential proteins of the synthetic benchmark.

Complexes are dense groups of the test network, terms depend on the families of a protein's domains,
and essential proteins are the hubs of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import networkx as nx
import numpy as np

from common.data.benchmarks.demo.world import Families, Proteins

SMALLEST_COMPLEX, LARGEST_COMPLEX = 4, 8
LEAST_DENSITY = 0.7
MOST_COMPLEXES = 40
MOST_ESSENTIAL = 100
# Real GO ids are far below these numbers, so no synthetic term can be mistaken for a real term.
_FIRST_TERM = {"go_p": 9_100_000, "go_f": 9_200_000, "go_c": 9_300_000}
_COMPARTMENTS = 4
_TERM_NOISE = 0.1


def find_complexes(network: nx.Graph) -> list[tuple[str, ...]]:
    """Find distinct dense groups of 4 to 8 proteins, starting from the best-linked proteins."""
    groups: dict[tuple[str, ...], None] = {}
    by_degree = sorted(network, key=lambda name: (-network.degree(name), name))
    for start in by_degree:
        group = _grow_group(network, start)
        if len(group) >= SMALLEST_COMPLEX:
            groups.setdefault(tuple(sorted(group)))
        if len(groups) == MOST_COMPLEXES:
            break
    return list(groups)


def _grow_group(network: nx.Graph, start: str) -> set[str]:
    """Grow a group from a protein by adding the best-linked neighbour while the group is dense."""
    group, links = {start}, 0
    while len(group) < LARGEST_COMPLEX:
        near = sorted({name for member in group for name in network[member]} - group)
        if not near:
            break
        best = max(near, key=lambda name: _count_links(network, name, group))
        links += _count_links(network, best, group)
        size = len(group) + 1
        if links < LEAST_DENSITY * size * (size - 1) / 2:
            break
        group.add(best)
    return group


def _count_links(network: nx.Graph, name: str, group: Iterable[str]) -> int:
    return sum(network.has_edge(name, member) for member in group)


def label_complex_pairs(
    network: nx.Graph, complexes: Sequence[Sequence[str]]
) -> list[tuple[str, str, int]]:
    """Return all distinct pairs of proteins within a complex, labelled by the network's edges."""
    pairs = {pair: None for group in complexes for pair in combinations(sorted(group), 2)}
    return [(a, b, int(network.has_edge(a, b))) for a, b in pairs]


def assign_terms(
    names: Sequence[str], proteins: Proteins, families: Families, rng: np.random.Generator
) -> dict[str, dict[str, list[str]]]:
    """Draw GO-like terms for proteins, by aspect.

    A function (`go_f`) belongs to a family, a process (`go_p`) to two families that bind, and a
    compartment (`go_c`) to several families. One term in ten is missing, and the same number of
    terms is added at random.
    """
    processes = np.argwhere(np.triu(families.compatible))
    groups = {
        "go_p": [set(map(int, pair)) for pair in processes],
        "go_f": [{family} for family in range(len(families))],
        "go_c": [set(range(start, len(families), _COMPARTMENTS)) for start in range(_COMPARTMENTS)],
    }
    rows = {name: row for row, name in enumerate(proteins.names)}
    terms = {}
    for name in names:
        carried = set(map(int, np.flatnonzero(proteins.carries[rows[name]])))
        terms[name] = {
            aspect: _draw_terms(_FIRST_TERM[aspect], members, carried, rng)
            for aspect, members in groups.items()
        }
    return terms


def _draw_terms(
    first: int, members: Sequence[set[int]], carried: set[int], rng: np.random.Generator
) -> list[str]:
    chances = rng.random(len(members))
    right = [bool(group & carried) for group in members]
    # On average, the number of random additional terms equals the number of missing terms.
    added = _TERM_NOISE * sum(right) / max(1, len(right) - sum(right))
    kept = [
        number
        for number, chance in enumerate(chances)
        if chance < (1 - _TERM_NOISE if right[number] else added)
    ]
    return [f"GO:{first + number}" for number in kept]


def rank_by_degree(network: nx.Graph) -> tuple[list[str], list[str]]:
    """Return the proteins with the most partners (essential), and equally many with the fewest."""
    partners = {name: sum(partner != name for partner in network[name]) for name in network}
    order = sorted(network, key=lambda name: (-partners[name], name))
    number = min(MOST_ESSENTIAL, len(order) // 2)
    return sorted(order[:number]), sorted(order[len(order) - number :])
