"""How far predictions cover what is judged: one line for each thing that is missing or ignored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.evaluation.networks import pair_keys
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import FunctionalData, Materials, Scope, pairs_within


def describe_coverage(predictions: Predictions, materials: Materials) -> list[str]:
    """Says how the listed pairs cover all that the tasks look at; nothing if they do exactly."""
    notes = describe_unasked(predictions, materials)
    for scope in materials.scopes:
        notes += describe_network(predictions, scope)
    if materials.functional is not None:
        notes += describe_complexes(predictions, materials.functional)
    return notes


def describe_unasked(predictions: Predictions, materials: Materials) -> list[str]:
    """Says how many listed pairs no task looks at, though perhaps at either protein."""
    asked: NDArray[np.bool_] = np.zeros(len(predictions.pairs), dtype=np.bool_)
    for scope in materials.scopes:
        if scope.network is not None:
            asked |= _inside(predictions, scope.network.nodes)
        if scope.table is not None:
            asked |= _listed_in(predictions, scope.table.proteins, scope.table.pairs)
    if materials.functional is not None:
        asked |= _listed_in(predictions, *pairs_within(materials.functional.complexes))
    unasked = np.flatnonzero(~asked)
    if not len(unasked):
        return []
    example = " ".join(predictions.ids[end] for end in predictions.pairs[unasked[0]])
    return [f"{len(unasked)} listed pairs (such as {example}) are no task's and are ignored"]


def describe_network(predictions: Predictions, scope: Scope) -> list[str]:
    """Says how many pairs of a test network, self-pairs too, are not listed, and of self-pairs."""
    if scope.network is None:
        return []
    count = len(scope.network.nodes)
    inside = _inside(predictions, scope.network.nodes)
    missing = count * (count + 1) // 2 - int(inside.sum())
    loops = int((inside & (predictions.pairs[:, 0] == predictions.pairs[:, 1])).sum())
    notes = []
    if missing:
        notes.append(
            tell_missing(missing, missing + int(inside.sum()), f"the {scope.species} test graph")
        )
    if loops:
        notes.append(
            f"{loops} listed pairs of {scope.species} are self-pairs; they count as the benchmark"
            " does"
        )
    return notes


def describe_complexes(predictions: Predictions, data: FunctionalData) -> list[str]:
    """Says how many pairs inside complexes are not listed."""
    names, pairs = pairs_within(data.complexes)
    missing = int(np.isnan(predictions.scores_of(names, pairs)).sum())
    return [tell_missing(missing, len(pairs), "the complexes")] if missing else []


def tell_missing(missing: int, count: int, where: str) -> str:
    """That so many pairs are not listed, or listed with NaN."""
    if missing == count:
        return f"none of the {count} pairs of {where} has a score: nothing is predicted there"
    return f"{missing} of {count} pairs of {where} have no score: not predicted"


def describe_range(predictions: Predictions, threshold: float) -> list[str]:
    """Says what a threshold makes of scores that are no probabilities, or that it lies above."""
    scores = predictions.scores
    called = int((scores >= threshold).sum())
    if not len(scores) or (called and scores.min() >= 0 and scores.max() <= 1):
        return []
    return [
        f"the scores run from {scores.min():g} to {scores.max():g}, and the threshold"
        f" (evaluate.decision_threshold.value, {threshold:g}) calls {called} of {len(scores)} pairs"
    ]


def _inside(predictions: Predictions, nodes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which listed pairs have both ends among these proteins, (P,)."""
    wanted = frozenset(nodes)
    known = np.array([name in wanted for name in predictions.ids], dtype=np.bool_)
    first, second = predictions.pairs.T
    inside: NDArray[np.bool_] = known[first] & known[second]
    return inside


def _listed_in(
    predictions: Predictions, names: tuple[str, ...], pairs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which listed pairs are among those of a table, (P,)."""
    place = {name: i for i, name in enumerate(predictions.ids)}
    codes = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    ends = codes[pairs].reshape(-1, 2)
    ends = ends[(ends >= 0).all(axis=1)]
    count = len(predictions.ids)
    listed = pair_keys(predictions.pairs[:, 0], predictions.pairs[:, 1], count)
    found: NDArray[np.bool_] = np.isin(listed, pair_keys(ends[:, 0], ends[:, 1], count))
    return found
