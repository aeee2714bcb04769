"""Check what a training stage needs, before any work starts and without slow imports."""

from __future__ import annotations

from pathlib import Path

from common.config import Config
from common.config_file import check_model_directory
from common.inference.thresholds import check_threshold
from common.training.trackers import check_trackers


def check_training(config: Config) -> None:
    """Reject a stage that would fail only after hours.

    Raises:
        UserError: The threshold cannot be applied, `training_config.loss.teacher` is not a model's
            directory, or the package of a tracker is not installed.
    """
    check_threshold(config.evaluate.decision_threshold)
    if config.training.loss.teacher is not None:
        check_model_directory(Path(config.training.loss.teacher), "training_config.loss.teacher")
    check_trackers(config)
