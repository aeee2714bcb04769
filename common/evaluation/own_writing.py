"""Write a network of the user's own proteins while the pairs are being scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.pair_hashes import find_hashed
from common.data.tables.pairs import PairTable
from common.evaluation.export.base import Format, Output, Proteins, Rows, Writer
from common.evaluation.own_request import Request
from common.files import explain_disk_errors
from common.inference.grid_scoring import ScoredPairs
from common.inference.predictor import Predictor
from common.inference.rounding import lowest_written, round_digits
from common.inference.scoring import probabilities
from common.inference.thresholds import call_pairs


@dataclass
class Count:
    """Counts of written pairs, and their lowest probability.

    Attributes:
        written: The number of written pairs.
        called: The number of written pairs that are predicted to interact.
        trained_on: The number of predicted interactions that are training pairs of the model.
        lowest: The lowest probability of a written pair.
    """

    written: int = 0
    called: int = 0
    trained_on: int = 0
    lowest: float = 1.0


class NetworkFile:
    """Writes the predicted network, and its drawing if requested, to the user's files.

    Args:
        request: The user's request.
        kind: The format of the output.
        proteins: The proteins to whose indices the scored pairs refer.
        predictor: The model, for its threshold and training pairs.
        folder: The folder for files that are not complete yet.
    """

    def __init__(
        self, request: Request, kind: Format, proteins: Proteins, predictor: Predictor, folder: Path
    ) -> None:
        self.request, self.kind, self.proteins = request, kind, proteins
        self.trained_on = predictor.checkpoint.trained_on
        self.count = Count()
        wish = request.wish
        self.threshold = predictor.threshold if wish.threshold is None else wish.threshold
        if wish.density is not None:
            self.threshold = 0.0  # All selected pairs count as interactions.
        self.only_called = wish.is_open and kind.only_called
        self.output = Output(request.output, folder)
        self.writers: list[Writer] = [kind.open(self.output, proteins)]
        if request.plot is not None:
            # Imported here because only drawings need matplotlib.
            from common.evaluation.export.picture import Picture

            self.writers.append(Picture(request.plot, proteins, wish.is_open))

    def write(self, pairs: ScoredPairs) -> None:
        """Decide which of these pairs are predicted to interact, and write the pairs."""
        scores = probabilities(pairs.logits)
        calls = call_pairs(scores, lowest_written(self.threshold)).astype(np.int8)
        rows = Rows(pairs.first, pairs.second, round_digits(scores), calls)
        if self.only_called:
            rows = rows.select(calls == 1)
        self._count(rows)
        with explain_disk_errors(self.request.output):
            for writer in self.writers:
                writer.write(rows)

    def close(self) -> None:
        """Complete the files and move them to their final paths."""
        with explain_disk_errors(self.request.output):
            for writer in self.writers:
                writer.close()
        self.output.publish()

    def _count(self, rows: Rows) -> None:
        called = rows.select(rows.calls == 1)
        self.count.written += len(rows.calls)
        self.count.called += len(called.calls)
        self.count.lowest = min(self.count.lowest, float(rows.probabilities.min(initial=1.0)))
        if self.trained_on is not None and len(called.calls):
            pairs = np.stack([called.first, called.second], axis=1)
            table = PairTable(self.proteins.ids, pairs, called.calls)
            self.count.trained_on += int(find_hashed(table, self.trained_on.pairs).sum())
