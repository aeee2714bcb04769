"""The ground truth of the synthetic benchmark: families, their proteins, and who binds whom.

A family is a short motif that occurs, with mutations, in the sequences of its members: a domain.
Some pairs of families are compatible, and two proteins can bind if any domain of one is compatible
with any domain of the other. The network contains some of the pairs that can bind: proteins have a
sociability with a power-law tail, so that a few are hubs. A given share of the interactions follows
no rule. This module knows nothing of splits or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data.splitting import Matrix

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# Relative frequencies of the residues in known proteins (UniProtKB/Swiss-Prot statistics), in per
# mille and in the order of RESIDUES.
_FREQUENCIES = np.array(
    [83, 14, 55, 67, 39, 71, 23, 59, 58, 97, 24, 41, 47, 39, 55, 66, 54, 69, 11, 29]
)


@dataclass(frozen=True)
class DemoSpec:
    """The sizes of a synthetic benchmark; the defaults are those of the demo."""

    proteins: int = 1000  # of the main species
    transfer_proteins: int = 200  # of the second species
    test_share: float = 0.2  # share of the main species' proteins that a split tests on
    lengths: tuple[int, int] = (80, 140)  # of proteins, in residues; uniform between
    families: int = 10  # of domains
    motif_lengths: tuple[int, int] = (13, 15)  # in residues; uniform between
    mutation: float = 0.05  # chance that a domain's residue is drawn anew instead of copied
    domains: tuple[float, ...] = (0.7, 0.3)  # shares of the proteins with one domain, with two, …
    # Concentration of the Dirichlet distribution that every protein draws its background
    # composition from; the smaller, the more proteins differ.
    composition: float = 150.0
    homotypic: int = 2  # families that bind themselves
    hub_partners: int = 2  # families that the first family binds beyond its one partner
    mean_degree: float = 30.0  # expected interactions of a protein of the main species
    transfer_mean_degree: float = 12.0  # the same for the second species
    tail: float = 2.0  # exponent of the Pareto distribution of sociability; smaller is heavier
    # Share of the interactions between proteins that cannot bind, and of the negative pairs
    # between proteins that can.
    noise: float = 0.03
    self_pairs: float = 0.12  # share of the proteins that bind themselves
    train_positives: int = 1500  # interactions kept on the train side, including validation
    validation_share: float = 0.2  # of the train side's pairs
    walk_length: int = 8  # nodes after which the walk that draws the test proteins starts anew
    set_sizes: tuple[int, ...] = (20, 40, 60, 80, 100)  # of the sampled node sets
    sets_per_size: int = 20
    unlabelled: int = 6000  # further sequences for the language model
    language_model_steps: int = 800


@dataclass(frozen=True, eq=False)
class Families:
    """The families of a benchmark."""

    motifs: tuple[npt.NDArray[np.int64], ...]  # positions in RESIDUES, one array per family
    compatible: Matrix  # (families, families), symmetric; True where two families bind

    def __len__(self) -> int:
        return len(self.motifs)


@dataclass(frozen=True, eq=False)
class Proteins:
    """The proteins of a species."""

    names: tuple[str, ...]  # sorted
    sequences: tuple[str, ...]
    carries: Matrix  # (proteins, families), True where a protein has a domain of a family

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Network:
    """Who can bind whom, and who does: symmetric matrices (proteins, proteins)."""

    can_bind: Matrix  # the rule
    binds: Matrix  # the interactions, self-pairs on the diagonal


def draw_families(spec: DemoSpec, rng: np.random.Generator) -> Families:
    """Draw random motifs, and which of them bind.

    Families are paired, so that each has a partner; the first is a hub that binds some of the
    others as well, and the last few bind themselves.
    """
    shortest, longest = spec.motif_lengths
    motifs = tuple(
        rng.integers(len(RESIDUES), size=rng.integers(shortest, longest + 1))
        for _ in range(spec.families)
    )
    compatible = np.zeros((spec.families, spec.families), np.bool_)
    order = np.arange(spec.families)
    compatible[order, np.minimum(order ^ 1, spec.families - 1)] = True
    compatible[0, 2 : 2 + 2 * spec.hub_partners : 2] = True
    itself = order[spec.families - spec.homotypic :]
    compatible[itself, itself] = True
    return Families(motifs, compatible | compatible.T)


def draw_proteins(
    spec: DemoSpec, families: Families, count: int, prefix: str, rng: np.random.Generator
) -> Proteins:
    """Proteins with their domains planted at random places of a random background."""
    carries = np.zeros((count, len(families)), np.bool_)
    sequences = []
    for row in range(count):
        number = 1 + rng.choice(len(spec.domains), p=spec.domains)
        chosen = rng.choice(len(families), size=number, replace=False)
        carries[row, chosen] = True
        sequences.append(_draw_sequence(spec, families, chosen, spec.lengths, rng))
    names = tuple(f"{prefix}{number:05d}" for number in range(1, count + 1))
    return Proteins(names, tuple(sequences), carries)


def draw_unlabelled(
    spec: DemoSpec, families: Families, count: int, rng: np.random.Generator
) -> list[str]:
    """Draw short sequences of no species, rich in domains, to train a language model.

    Each has three domains and little background, so that a training step shows the model more
    domains than whole proteins would.
    """
    number = min(3, len(families))
    longest = number * spec.motif_lengths[1]
    lengths = (longest + 15, longest + 45)
    chosen = [rng.choice(len(families), size=number, replace=False) for _ in range(count)]
    return [_draw_sequence(spec, families, domains, lengths, rng) for domains in chosen]


def draw_network(
    spec: DemoSpec,
    families: Families,
    proteins: Proteins,
    mean_degree: float,
    rng: np.random.Generator,
) -> Network:
    """Draw the interactions of a species.

    A pair that can bind does so with probability min(1, c * w_a * w_b), after Chung and Lu (2002);
    the sociability w is Pareto distributed and c gives the mean degree. In addition, there are the
    given share of interactions that follow no rule, and the self-pairs.
    """
    size = len(proteins)
    carries = proteins.carries.astype(np.int64)
    can_bind = carries @ families.compatible.astype(np.int64) @ carries.T > 0
    sociability = (1.0 - rng.random(size)) ** (-1.0 / spec.tail)
    rows, columns = np.triu_indices(size, 1)
    allowed = can_bind[rows, columns]
    wanted = mean_degree * size / 2
    chances = np.full(len(rows), spec.noise * wanted / max(1, int(np.sum(~allowed))))
    weights = (sociability[rows] * sociability[columns])[allowed]
    chances[allowed] = _scale_to_sum(weights, (1 - spec.noise) * wanted)
    binds = np.zeros((size, size), np.bool_)
    binds[rows, columns] = rng.random(len(rows)) < chances
    binds |= binds.T
    np.fill_diagonal(binds, rng.random(size) < spec.self_pairs)
    return Network(can_bind, binds)


def _draw_sequence(
    spec: DemoSpec,
    families: Families,
    chosen: npt.NDArray[np.int64],
    lengths: tuple[int, int],
    rng: np.random.Generator,
) -> str:
    domains = [_mutate(families.motifs[family], spec.mutation, rng) for family in chosen]
    background = int(rng.integers(lengths[0], lengths[1] + 1)) - sum(map(len, domains))
    frequencies = _FREQUENCIES / _FREQUENCIES.sum()
    composition = rng.dirichlet(spec.composition * frequencies)
    residues = rng.choice(len(RESIDUES), size=background, p=composition)
    places = np.sort(rng.integers(0, background + 1, size=len(domains)))
    linkers = np.split(residues, places)
    parts = [part for pair in zip(linkers, domains, strict=False) for part in pair] + linkers[-1:]
    return "".join(RESIDUES[residue] for residue in np.concatenate(parts))


def _mutate(
    motif: npt.NDArray[np.int64], chance: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    changed = rng.random(len(motif)) < chance
    return np.where(changed, rng.integers(len(RESIDUES), size=len(motif)), motif)


def _scale_to_sum(weights: npt.NDArray[np.float64], total: float) -> npt.NDArray[np.float64]:
    """min(1, c * weights), with c chosen so that the sum is as near to `total` as possible."""
    scale = total / weights.sum()
    for _ in range(50):  # what is cut off at 1 is given to the other pairs until little is left
        scale *= total / np.minimum(1.0, scale * weights).sum()
    chances: npt.NDArray[np.float64] = np.minimum(1.0, scale * weights)
    return chances
