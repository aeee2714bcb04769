"""Load and check the configuration of an evaluation, without slow imports."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.command_line import global_rank
from common.config import Config
from common.config_file import check_model_directory, keys_of, load_config
from common.errors import UserError
from common.ranks import OneProcess
from common.registry import BASELINES

if TYPE_CHECKING:
    from accelerate import Accelerator


def configure_judging(arguments: argparse.Namespace) -> Config:
    """Load the configuration of an evaluation, and apply the command line's options to it."""
    overrides = list(arguments.overrides)
    if arguments.tasks:
        overrides.append(f"evaluate.tasks=[{','.join(arguments.tasks)}]")
    config = load_config(arguments.config, "evaluate", overrides)
    if arguments.with_baselines and not config.evaluate.baselines:
        # `kernel` embeds proteins, so a prediction file is compared with it only on request.
        left_out = {"kernel"} if arguments.predictions else set()
        names = [name for name in BASELINES.names() if name not in left_out]
        overrides.append(f"evaluate.baselines=[{','.join(names)}]")
        config = load_config(arguments.config, "evaluate", overrides)
    if config.evaluate.baseline_checkpoint is not None:
        named = Path(config.evaluate.baseline_checkpoint)
        check_model_directory(named, "evaluate.baseline_checkpoint")
    return config


def check_judged_model(config: Config, arguments: argparse.Namespace) -> None:
    """Reject settings that cannot be used to evaluate a model.

    Raises:
        UserError: A prefilter is configured, the threshold's mode would ignore a given setting, or
            the model cannot be pushed to the hub.
    """
    # Imported here: this module imports numpy (0.06 seconds), which `--help` does not need.
    from common.inference.thresholds import check_threshold

    if config.evaluate.scoring.prefilter.checkpoint is not None:
        raise UserError(
            "evaluate.scoring.prefilter would leave most test pairs without a score; set"
            " evaluate.scoring.prefilter.checkpoint=null (to evaluate a prefiltered network, give"
            " the file of the network to --predictions)"
        )
    check_threshold(config.evaluate.decision_threshold, keys_of(arguments.overrides))
    if arguments.push_to_hub or arguments.public:
        # Imported here: importing the hub's client takes 0.5 seconds.
        from common.inference.hub import check_push

        source = arguments.checkpoint or config.run.load_checkpoint_path
        check_push(arguments.push_to_hub, arguments.public, source)


def find_predictions(arguments: argparse.Namespace) -> Path:
    """Return the prediction file to evaluate.

    Raises:
        UserError: There is no such file.
    """
    file = Path(arguments.predictions)
    if not file.is_file():
        raise UserError(
            f"--predictions {file} is not an existing file; give a file whose lines are"
            " 'protein_a protein_b score'"
        )
    return file


def start_for_file(config: Config) -> Accelerator | OneProcess | None:
    """Start one process to evaluate a prediction file, or all processes if a model is scored, too.

    Returns:
        None on a rank that is not needed.
    """
    if config.evaluate.baseline_checkpoint is not None:
        # Imported here: torch takes 4 seconds and is not needed to evaluate a file alone.
        from common.launch import start_accelerator

        return start_accelerator(config)
    return OneProcess() if global_rank() == 0 else None
