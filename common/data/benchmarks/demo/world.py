"""Draws the ground truth of the synthetic benchmark: families, proteins and their interactions.

A family is a short motif that occurs, with mutations, in the sequences of its members: a domain.
Some pairs of families are compatible, and two proteins can bind if any domain of one protein is
compatible with any domain of the other. The network contains some of the pairs that can bind:
proteins have a sociability with a power-law tail, so that a few proteins are hubs. A given fraction
of the interactions is random. This module does not handle splits or files.
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
    """The parameters of a synthetic benchmark; the default values define the demo."""

    proteins: int = 1000  # number of proteins of the main species
    transfer_proteins: int = 200  # number of proteins of the second species
    test_share: float = 0.2  # fraction of the main species' proteins in the test split
    lengths: tuple[int, int] = (80, 140)  # shortest and longest protein, in residues
    families: int = 10  # number of domain families
    motif_lengths: tuple[int, int] = (13, 15)  # shortest and longest motif, in residues
    mutation: float = 0.05  # probability that a domain's residue is random instead of copied
    domains: tuple[float, ...] = (0.7, 0.3)  # fractions of proteins with one, two, … domains
    # Concentration of the Dirichlet distribution from which the background composition of every
    # protein is drawn; a smaller concentration makes proteins more different.
    composition: float = 150.0
    homotypic: int = 2  # number of families that bind themselves
    hub_partners: int = 2  # number of further families that the first family binds
    mean_degree: float = 30.0  # expected interactions per protein of the main species
    transfer_mean_degree: float = 12.0  # expected interactions per protein of the second species
    tail: float = 2.0  # exponent of the Pareto distribution of sociability; smaller is heavier
    # Fraction of the interactions that are between proteins that cannot bind, and of the negative
    # pairs that are between proteins that can bind.
    noise: float = 0.03
    self_pairs: float = 0.12  # fraction of the proteins that bind themselves
    train_positives: int = 1500  # number of interactions for training and validation
    validation_share: float = 0.2  # fraction of these pairs that are used for validation
    walk_length: int = 8  # nodes after which a new walk for drawing test proteins starts
    set_sizes: tuple[int, ...] = (20, 40, 60, 80, 100)  # sizes of the sampled node sets
    sets_per_size: int = 20
    unlabelled: int = 6000  # number of additional sequences for the language model
    language_model_steps: int = 800


@dataclass(frozen=True, eq=False)
class Families:
    """The protein families of a synthetic benchmark: their motifs, and which families bind."""

    motifs: tuple[npt.NDArray[np.int64], ...]  # positions in RESIDUES, one array per family
    compatible: Matrix  # (families, families), symmetric; True where two families bind

    def __len__(self) -> int:
        return len(self.motifs)


@dataclass(frozen=True, eq=False)
class Proteins:
    """The proteins of a synthetic species: names, sequences and domains."""

    names: tuple[str, ...]  # sorted
    sequences: tuple[str, ...]
    carries: Matrix  # (proteins, families), True where a protein has a domain of a family

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Network:
    """The possible and the actual interactions, as symmetric matrices (proteins, proteins)."""

    can_bind: Matrix  # pairs with compatible domains
    binds: Matrix  # the interactions, self-pairs on the diagonal


def draw_families(spec: DemoSpec, rng: np.random.Generator) -> Families:
    """Draw families with random motifs, and choose which families bind.

    Families are paired, so that each family has a partner; the first family is a hub that also
    binds some other families, and the last few families bind themselves.
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
    """Draw proteins with domains at random positions of a random background sequence."""
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
    """Draw short sequences with many domains, which only train the language model.

    Each sequence has three domains and little background, so that a training step contains more
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
    """Draw the interaction network of a species.

    A pair that can bind interacts with probability min(1, c * w_a * w_b), after Chung and Lu
    (2002); the sociability w is Pareto distributed, and c is chosen to give the mean degree. In
    addition, a given fraction of the interactions is random, and some proteins bind themselves.
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
    """Return min(1, c * weights), with c chosen so that the sum is close to `total`."""
    scale = total / weights.sum()
    for _ in range(50):  # each iteration compensates for the values that are limited to 1
        scale *= total / np.minimum(1.0, scale * weights).sum()
    chances: npt.NDArray[np.float64] = np.minimum(1.0, scale * weights)
    return chances
