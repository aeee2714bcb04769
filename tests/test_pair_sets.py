"""Sets of pairs that tasks look at: which predicted pairs belong to them, and what is missing."""

from __future__ import annotations

import numpy as np

from common.evaluation.pair_sets import PairSet
from common.evaluation.predictions import Predictions

LISTED = Predictions.gather(
    ("A", "B", "C", "X"), np.array([[1, 0], [2, 2], [0, 3], [3, 3]]), np.array([0.9, 0.8, 0.7, 0.6])
)


def test_a_whole_network_has_all_pairs_of_its_proteins_and_no_others() -> None:
    network = PairSet("the graph", ("C", "B", "A"))
    assert network.rows().tolist() == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]]
    assert network.among(LISTED).tolist() == [True, False, True, False]  # A-B, A-X, C-C, X-X
    assert network.describe_coverage(LISTED) == [
        "4 of 6 pairs of the graph have no score and count as not predicted",
        "1 listed pair of the graph is a self-pair; it counts like other pairs",
    ]


def test_named_pairs_are_found_in_either_orientation() -> None:
    some = PairSet("some", ("X", "A", "C"), np.array([[2, 1], [0, 1], [2, 2]]))
    assert some.among(LISTED).tolist() == [False, True, True, False]
    assert some.describe_coverage(LISTED) == [
        "1 of 3 pairs of some have no score and count as not predicted"
    ]
    none = PairSet("none", ("A", "C"), np.array([[0, 1]]))
    assert none.describe_coverage(LISTED) == [
        "none of the 1 pairs of none has a score, so all count as not predicted"
    ]
