"""The threshold mode `match_density`, which gives the predicted network a realistic density.

If `density` is a number, this fraction of all pairs of held-out proteins is called interactions.
With `auto`, as many pairs are called interactions as there are in node sets of these proteins,
which are drawn by the evaluated kind of walk (`common.data.network_sample`): the relative density
is 1. Calling as many pairs as interact over *all* pairs would make the evaluated node sets only
about half as dense as they really are, because walks collect more interactions than called pairs.

If several kinds of walk are evaluated, `auto` uses the geometric mean of their relative densities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.config import Config, DecisionThresholdConfig
from common.inference.thresholds import Choice, Evidence, ThresholdMode
from common.inference.thresholds.levels import Levels

if TYPE_CHECKING:
    from common.data.held_out import HeldOut
    from common.data.network_sample import NetworkSample


def _sample(config: Config, held_out: HeldOut) -> NetworkSample:
    # Imported when needed: the import takes a second, and checking a mode does not need it.
    from common.data.network_sample import sample_pairs, sample_walks

    judged, seed = config.evaluate.strategies, config.run.seed
    if config.evaluate.decision_threshold.density != "auto":
        return sample_pairs(held_out, seed)
    own = config.data.benchmark.split_strategy
    return sample_walks(held_out, (own,) if judged == "all" else judged, seed)


def _choose(settings: DecisionThresholdConfig, evidence: Evidence) -> Choice:
    sample = evidence.sample
    assert sample is not None
    auto = settings.density == "auto"
    wanted = 1.0 if settings.density == "auto" else settings.density
    levels = Levels.of(evidence.sample_scores)
    with np.errstate(divide="ignore"):  # Top pairs may lack one kind of walk.
        densities = np.mean([np.log(levels.add_up(each)) for each in sample.weights], axis=0)
    level = int(np.argmin(np.abs(densities - np.log(wanted))))
    assumed = float(sample.table.labels.mean()) if auto else wanted
    return Choice(levels.threshold(level), {"density": assumed})


MODE = ThresholdMode(
    _choose,
    keys=("density",),
    needs_validation=True,
    needs_network=True,
    sample=_sample,
    meaning="as many pairs of held-out proteins are called as a network of this density has",
)
