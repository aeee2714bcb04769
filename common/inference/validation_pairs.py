"""The pairs on which a model is validated, in training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from common.config import Config
from common.data.batches import PairData
from common.data.network_sample import NetworkSample
from common.data.splits import HELD_OUT, Splits
from common.inference.partial_scores import Scores
from common.inference.scoring import probabilities
from common.inference.thresholds import Evidence, assume_prevalence, draw_sample


@dataclass(frozen=True)
class ValidationPairs:
    """The pairs on which a model is validated, and further data for choosing the threshold.

    Attributes:
        monitored: The pairs on which the best epoch and the threshold are chosen.
        counts: How many of the monitored pairs belong to each set.
        benchmark: The benchmark's own validation pairs, if other pairs are monitored.
        prevalence: The fraction of pairs of new proteins that interact, if it is known.
        sample: Further pairs of held-out proteins on which the threshold is chosen.
    """

    monitored: PairData
    counts: tuple[int, ...]
    benchmark: PairData | None = None
    prevalence: float | None = None
    sample: NetworkSample | None = None

    @classmethod
    def of(cls, splits: Splits, config: Config) -> Self:
        """Select the pairs of held-out proteins, or the benchmark's pairs if none is held out."""
        monitored, held_out = splits.monitored, splits.held_out
        return cls(
            monitored,
            (len(monitored),) if held_out is None else held_out.counts,
            splits.parts["val"] if HELD_OUT in splits.parts else None,
            assume_prevalence(config, held_out),
            draw_sample(config, held_out),
        )

    def evidence(self, logits: Scores, score: Callable[[PairData], Scores]) -> Evidence:
        """Return the scored pairs from which a threshold and a calibration are chosen.

        Args:
            logits: (N,) the model's logits of the monitored pairs.
            score: Computes the model's logits of further pairs.
        """
        data = self.monitored
        found = Evidence(probabilities(logits), data.table.labels, self.prevalence)
        if self.sample is None:
            return found
        others = score(PairData(self.sample.table, data.store))
        return replace(found, sample=self.sample, sample_scores=probabilities(others))
