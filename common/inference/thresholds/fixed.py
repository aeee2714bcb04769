"""The threshold mode `fixed`, which uses the configured value."""

from __future__ import annotations

from common.config import DecisionThresholdConfig
from common.inference.thresholds import Choice, Evidence, ThresholdMode


def _choose(settings: DecisionThresholdConfig, _: Evidence) -> Choice:
    return Choice(settings.as_probability())


MODE = ThresholdMode(_choose, keys=("value",), meaning="a number of the configuration")
