"""The configuration of a judgement, from its file and the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.config import Config
from common.config_file import check_model_directory, load_config
from common.errors import UserError
from common.registry import BASELINES


def configure_judging(arguments: argparse.Namespace) -> Config:
    """Load the configuration of a judgement, with the command line's tasks and baselines."""
    overrides = list(arguments.overrides)
    if arguments.tasks:
        overrides.append(f"evaluate.tasks=[{','.join(arguments.tasks)}]")
    config = load_config(arguments.config, "evaluate", overrides)
    if arguments.with_baselines and not config.evaluate.baselines:
        # To judge a file, no protein is embedded unless the configuration names this baseline.
        left_out = {"kernel"} if arguments.predictions else set()
        names = [name for name in BASELINES.names() if name not in left_out]
        overrides.append(f"evaluate.baselines=[{','.join(names)}]")
        config = load_config(arguments.config, "evaluate", overrides)
    if config.evaluate.baseline_checkpoint is not None:
        named = Path(config.evaluate.baseline_checkpoint)
        check_model_directory(named, "evaluate.baseline_checkpoint")
    return config


def refuse_prefilter(config: Config) -> None:
    """Reject a judgement of pairs that a model would not score.

    Raises:
        UserError: A prefilter is configured.
    """
    if config.evaluate.scoring.prefilter.checkpoint is not None:
        raise UserError(
            "evaluate.scoring.prefilter leaves most pairs without a score, so the metrics would not"
            " be the model's; set evaluate.scoring.prefilter.checkpoint=null to judge the model, or"
            " judge the file that --fasta with --prefilter wrote with --predictions"
        )
