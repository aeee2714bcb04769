"""The labelled test pairs about which the scores are most wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.csv_log import Cell, Table
from common.evaluation.report.blocks import Judged, Numbers, Section

MOST = 10


def show_mistakes(judged: Judged) -> Iterator[Section]:
    """Show the non-interacting pairs with the highest, the interacting with the lowest scores."""
    if "pairs" not in judged.side.tasks:
        return
    table, scored = judged.side.sets[0].table, judged.scored
    scores = scored.predictions.scores_of(table.proteins, table.pairs)
    rows: list[dict[str, Cell]] = []
    for label, order, wrong in (
        (0, -scores, scores >= scored.threshold.value),
        (1, scores, scores < scored.threshold.value),
    ):
        ranked = np.argsort(order, kind="stable")
        chosen = ranked[(wrong & (table.labels == label))[ranked]][:MOST]
        for row in chosen.tolist():
            first, second = (table.proteins[end] for end in table.pairs[row])
            called = 1 - label
            rows.append({"protein_a": first, "protein_b": second, "label": label,
                         "called": called, "score": float(scores[row])})  # fmt: skip
    if rows:
        header = ("protein_a", "protein_b", "label", "called", "score")
        intro = (
            f"Up to {MOST} test pairs that are called interactions and are labelled 0, with the"
            f" highest scores first, and up to {MOST} that are labelled 1 and not called, with the"
            " lowest scores first. Some labels are wrong themselves: a negative pair is one that"
            " nobody has reported."
        )
        yield Section("Most confident mistakes", [Numbers(Table(header, rows), "mistakes")], intro)
