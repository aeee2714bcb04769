"""The threshold mode `match_density`: the predicted network is as dense as a network should be.

If `density` is a number, this share of all pairs of held-out proteins is called. With `auto`,
the relative density is 1 over node sets of these proteins, drawn by walks of the kind that is
judged: as many pairs are called as interact there (`common.data.network_sample`). Calling as many
pairs as interact over *all* pairs would make the judged node sets only about half as dense as they
really are, because walks collect more interactions than called pairs.

If several kinds of walk are judged, `auto` takes the geometric mean of their relative densities.
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
    # Imported when needed: this takes a second, and a mode is checked before it is needed.
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
