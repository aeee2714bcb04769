"""The threshold mode `precision`, which reaches a given precision at a realistic prevalence.

Half of the validation pairs interact, but few of all pairs do. Let t be the fraction of interacting
pairs that are called interactions, and f the fraction of the other pairs that are; neither depends
on the number of pairs of each kind. The precision at the prevalence p is p t / (p t + (1 - p) f).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.config import DecisionThresholdConfig
from common.errors import UserError
from common.inference.thresholds import SECTION, Choice, Evidence, ThresholdMode, check_scores
from common.inference.thresholds.levels import Levels


def precision_at(
    levels: Levels, truth: NDArray[np.bool_], prevalence: float
) -> NDArray[np.float64]:
    """Compute the precision (L,) at a prevalence when pairs down to each level are called."""
    hits, false = (levels.add_up(chosen) / np.count_nonzero(chosen) for chosen in (truth, ~truth))
    precision: NDArray[np.float64] = (
        prevalence * hits / (prevalence * hits + (1 - prevalence) * false)
    )
    return precision


def _choose(settings: DecisionThresholdConfig, evidence: Evidence) -> Choice:
    """Choose the lowest threshold that reaches the precision.

    Raises:
        UserError: No threshold reaches the precision.
    """
    assert evidence.prevalence is not None
    scores, truth = check_scores(evidence.scores, evidence.labels)
    levels = Levels.of(scores)
    precision = precision_at(levels, truth, evidence.prevalence)
    reaching = np.flatnonzero(precision >= settings.precision)
    if not len(reaching):
        raise UserError(
            f"no threshold reaches a precision of {settings.precision} on the validation pairs at a"
            f" prevalence of {evidence.prevalence:.3g} (the best is {precision.max():.3g}); lower"
            f" {SECTION}.precision"
        )
    return Choice(levels.threshold(int(reaching[-1])), {"prevalence": evidence.prevalence})


MODE = ThresholdMode(
    _choose,
    keys=("precision",),
    needs_validation=True,
    needs_both_classes=True,
    needs_network=True,
    meaning="chosen so that a given fraction of the called pairs should interact",
)
