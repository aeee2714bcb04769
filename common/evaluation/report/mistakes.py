"""The report's section on the wrong predictions with the most extreme scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.csv_log import Cell, Table
from common.evaluation.report.blocks import Judged, Numbers, Section

MOST = 10


def show_mistakes(judged: Judged) -> Iterator[Section]:
    """Yield the section with the most extreme false positives and false negatives."""
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
            f"Up to {MOST} false positives with the highest scores (test pairs with the label 0"
            f" that are predicted to interact), and up to {MOST} false negatives with the lowest"
            " scores (test pairs with the label 1 that are not). Some labels may be wrong: the"
            " label 0 only means that no interaction has been reported."
        )
        yield Section("Most confident mistakes", [Numbers(Table(header, rows), "mistakes")], intro)
