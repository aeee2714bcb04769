"""Are known protein complexes found? The figures of PRING's `complex_pathway` task.

(github.com/SophieSarceau/PRING; except where a docstring says otherwise.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.evaluation.networks import Network


@dataclass(frozen=True)
class ComplexFigures:
    """How well known complexes are recovered: means over distinct complexes, 0 to 1."""

    complex_count: int
    pathway_recall: float
    pathway_precision: float
    pathway_connectivity: float


def compare_complexes(predicted: Network, true_complexes: Sequence[Network]) -> ComplexFigures:
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
