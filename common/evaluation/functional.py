"""Whether a predicted network keeps what biology reads in the true one: PRING's functional tasks.

Protein complexes that should hang together, modules that should share functions, and essential
proteins that should stand out by their place in the network. The figures are those of the
benchmark's `complex_pathway`, `enrichment_analysis` and `essential_protein` scripts
(github.com/SophieSarceau/PRING), except where a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from common.evaluation.enrichment import (
    Annotations,
    Enrichment,
    GoTerms,
    OfflineEnrichment,
)
from common.evaluation.networks import FloatArray, Network, one_blas_thread

LOUVAIN_SEED = 42
MATCHING_JACCARD = 0.2
TOP_PROTEINS = 100
DENSITY_POINTS = 10_000


@dataclass(frozen=True)
class ComplexFigures:
    """How well known complexes are recovered: means over distinct complexes, 0 to 1."""

    complex_count: int
    pathway_recall: float
    pathway_precision: float
    pathway_connectivity: float


def complexes(predicted: Network, true_complexes: Sequence[Network]) -> ComplexFigures:
    """Compares the predicted interactions inside each known complex with the known ones.

    Recall is the share of true pairs that are predicted, precision the share of predicted pairs
    that are true (0 where nothing is predicted), connectivity whether the predicted pairs join the
    whole complex, be it connected in truth or not. Self-pairs are pairs. Complexes of the same
    proteins count once, the first.

    Args:
        predicted: The predicted network; pairs that lie in no complex do not count.
        true_complexes: At least one complex: its proteins and their interactions.
    """
    distinct = {true.nodes: true for true in reversed(true_complexes)}.values()
    predicted = predicted.on({name for true in distinct for name in true.nodes})
    recalls, precisions, joined = [], [], []
    for true in distinct:
        guess = predicted.on(true.nodes)
        guessed, known = set(map(tuple, guess.edges.tolist())), set(map(tuple, true.edges.tolist()))
        hits = len(guessed & known)
        recalls.append(hits / len(known) if known else 0.0)
        precisions.append(hits / len(guessed) if guessed else 0.0)
        joined.append(guess.is_connected())
    return ComplexFigures(
        complex_count=len(distinct),
        pathway_recall=float(np.mean(recalls)),
        pathway_precision=float(np.mean(precisions)),
        pathway_connectivity=float(np.mean(joined)),
    )


@dataclass(frozen=True)
class ModuleFigures:
    """How far predicted modules do what the true ones do.

    The ratio is None where it has no value: nothing matched, or no terms shared within the true
    modules. The alignment is None where nothing matched; `enrichment` says by which test it is.
    """

    predicted_modules: int
    true_modules: int
    matched_modules: int
    consistency_ratio: float | None
    functional_alignment: float | None
    enrichment: str


def go_modules(
    predicted: Network,
    true: Network,
    go_terms: GoTerms,
    source: str = "GO:BP",
    enrichment: Enrichment | None = None,
) -> ModuleFigures:
    """Compares the functions of predicted modules with those of the true modules they match.

    Modules are Louvain communities. Each predicted module is matched to the true one with the
    highest Jaccard index of proteins, if that is at least 0.2. Over the matches,

    - the consistency ratio is predicted over true mean within-module similarity, where a module's
      similarity is the mean Jaccard index of the GO terms of two members, over those that share
      any, and modules without such members do not count;
    - the functional alignment is the mean Jaccard index of the enriched terms of the two modules,
      0 where neither has any. The benchmark enriches through g:Profiler; see `enrichment`.

    Args:
        predicted: The predicted network; pairs outside the true network's proteins do not count.
        true: The true network.
        go_terms: Protein id to aspect (`go_p`, `go_f`, `go_c`) to GO terms.
        source: GO:BP, GO:MF or GO:CC.
        enrichment: How to find enriched terms; offline if None.

    Raises:
        UserError: The source is unknown or no protein has a term of it.
    """
    annotations = Annotations.of(true.nodes, go_terms, source)
    enriched = enrichment or OfflineEnrichment(annotations)
    guesses, truths = modules(predicted.on(true.nodes)), modules(true)
    matches = match_modules(guesses, truths)
    return ModuleFigures(
        predicted_modules=len(guesses),
        true_modules=len(truths),
        matched_modules=len(matches),
        consistency_ratio=_consistency(matches, annotations),
        functional_alignment=_alignment(matches, true.nodes, enriched),
        enrichment=enriched.name,
    )


Module = frozenset[int]
Match = tuple[Module, Module]


def modules(network: Network) -> list[Module]:
    """Louvain communities (Blondel et al., 2008), resolution 1, seed 42, as places in `nodes`.

    The graph is built from the sorted nodes and edges, so that nothing but the network decides.
    """
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(len(network.nodes)))
    graph.add_edges_from(network.edges.tolist())
    found = nx.community.louvain_communities(graph, resolution=1, seed=LOUVAIN_SEED)
    return [frozenset(module) for module in found]


def match_modules(predicted: Sequence[Module], true: Sequence[Module]) -> list[Match]:
    """Pairs each predicted module with its best true one, the first of equals, from 0.2 on."""
    matches = []
    for guess in predicted:
        best = max(true, key=lambda truth: _jaccard(guess, truth))
        if _jaccard(guess, best) >= MATCHING_JACCARD:
            matches.append((guess, best))
    return matches


def _jaccard(first: Collection[object], second: Collection[object]) -> float:
    either = len(set(first) | set(second))
    return len(set(first) & set(second)) / either if either else 0.0


def _consistency(matches: Sequence[Match], annotations: Annotations) -> float | None:
    guessed = [annotations.mean_similarity(guess) for guess, _ in matches]
    actual = [annotations.mean_similarity(truth) for _, truth in matches]
    if not any(actual):
        return None
    return _mean_of_positive(guessed) / _mean_of_positive(actual)


def _mean_of_positive(values: Sequence[float]) -> float:
    positive = [value for value in values if value > 0]
    return float(np.mean(positive)) if positive else 0.0


def _alignment(
    matches: Sequence[Match], names: Sequence[str], enriched: Enrichment
) -> float | None:
    if not matches:
        return None
    overlaps = [
        _jaccard(*(enriched([names[place] for place in module]) for module in match))
        for match in matches
    ]
    return float(np.mean(overlaps))


@dataclass(frozen=True, eq=False)
class EssentialFigures:
    """Whether essential proteins stand out by centrality.

    Attributes:
        precision_at_100: Share of the truly most central proteins among the predicted ones.
        distribution_overlap: Area under both densities of predicted centrality, 0 to 1.
        top: How many proteins were "most central": 100, or half of all if there are not 200.
        essential: (E,) predicted centralities of the essential proteins.
        non_essential: (M,) those of the non-essential ones.
        notes: What was ignored, one line each.
    """

    precision_at_100: float
    distribution_overlap: float
    top: int
    essential: FloatArray
    non_essential: FloatArray
    notes: tuple[str, ...] = ()


def essential_proteins(
    predicted: Network, true: Network, essential: Sequence[str], non_essential: Sequence[str]
) -> EssentialFigures:
    """Ranks chosen proteins by centrality in the predicted and in the true network.

    Precision at 100 compares the 100 most central of all chosen proteins in either network; equal
    centralities keep the order of the lists, essential first, as in the benchmark. The overlap
    compares the predicted centralities of the two groups: lower is better.

    Args:
        predicted: The predicted network; pairs outside the true network's proteins do not count.
        true: The true network.
        essential: Ids of essential proteins; those that the true network lacks do not count.
        non_essential: Ids of non-essential proteins, likewise.

    Raises:
        UserError: The true network lacks all proteins of a group.
    """
    standing_out = known_ids(essential, true, "essential")
    others = known_ids(non_essential, true, "non-essential")
    chosen = standing_out + others
    lost = len(set(essential)) + len(set(non_essential)) - len(chosen)
    notes = [f"{lost} listed proteins are not in the test graph and ignored"] if lost else []
    top = min(TOP_PROTEINS, len(chosen) // 2)
    guessed = network_centrality(predicted.on(true.nodes), chosen)
    actual = network_centrality(true, chosen)
    first, second = np.split(guessed, [len(standing_out)])
    return EssentialFigures(
        precision_at_100=len(_most_central(guessed, top) & _most_central(actual, top)) / top,
        distribution_overlap=distribution_overlap(first, second),
        top=top,
        essential=first,
        non_essential=second,
        notes=tuple(notes),
    )


def known_ids(ids: Sequence[str], network: Network, kind: str) -> list[str]:
    """Those of the ids that the network has, each once, in their order.

    Raises:
        UserError: There are none.
    """
    known = [name for name in dict.fromkeys(ids) if name in network.index]
    if not known:
        raise UserError(
            f"none of the {kind} proteins is in the test graph: take lists and graph of the "
            "same species and split"
        )
    return known


def _most_central(centrality: FloatArray, top: int) -> set[int]:
    return set(np.argsort(-centrality, kind="stable")[:top].tolist())


def network_centrality(network: Network, proteins: Sequence[str]) -> FloatArray:
    """Sum of edge clustering coefficients (Wang et al., 2012), (P,) for the given proteins.

    NC(u) = Σ over neighbours v of |N(u) ∩ N(v)| / min(|N(u)| - 1, |N(v)| - 1), edges with an end
    of degree 1 left out. A protein with a self-pair is its own neighbour, as in the benchmark.
    """
    adjacency = network.adjacency(np.float32)
    places = [network.index[name] for name in proteins]
    others = adjacency.sum(axis=1, dtype=np.float64) - 1
    with one_blas_thread():
        common = (adjacency[places] @ adjacency).astype(np.float64)
    possible = np.minimum(others[places][:, None], others[None, :])
    counted = (adjacency[places] > 0) & (possible > 0)
    coefficients = np.divide(common, possible, out=np.zeros_like(common), where=counted)
    centrality: FloatArray = coefficients.sum(axis=1)
    return centrality


def distribution_overlap(first: FloatArray, second: FloatArray) -> float:
    """The area under both densities, over the range where both groups have values, 0 to 1.

    Densities are Gaussian kernel estimates (Scott's bandwidth), integrated by the trapezoid rule on
    10,000 points. Two groups of one and the same value overlap fully; groups whose ranges do not
    meet, or meet in one point, not at all (the benchmark fails there or turns negative).
    """
    low, high = max(first.min(), second.min()), min(first.max(), second.max())
    if low >= high:
        return float(len(np.unique([*first, *second])) == 1)
    from scipy.stats import gaussian_kde

    points = np.linspace(low, high, DENSITY_POINTS)
    both = np.minimum(gaussian_kde(first)(points), gaussian_kde(second)(points))
    return float(np.trapezoid(both, points))


def read_protein_list(path: str | Path) -> list[str]:
    """Reads one protein id per line, blank lines left out.

    Raises:
        UserError: The file cannot be read, is empty, or a line holds more than an id.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the path") from None
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise UserError(f"{path}, line {number}: expected one protein id, found '{line[:60]}'")
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise UserError(f"{path} holds no protein id: fetch it again")
    return ids
