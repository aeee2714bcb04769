"""Print where a finished run's results are, and which commands the user can run next.

The printed commands repeat those options of the finished command that also apply to the next stage,
so they can be copied unchanged.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.console import list_places, show
from common.run import LOG_FILE, Run

# Keys that concern only one stage, which are left out of the commands for other stages.
OF_ONE_STAGE = (
    "pretrain",
    "training_config",
    "data_config.dataloader",
    "run_config.pretrain_run_id",
    "run_config.finetune_run_id",
    "run_config.eval_run_id",
    "run_config.load_checkpoint_path",
)


def end_training(run: Run, arguments: argparse.Namespace, model: Path) -> None:
    """Print where a training stage wrote its results, and the commands of the next stages.

    Args:
        run: The run of the stage.
        arguments: The stage's command line.
        model: The directory of the stage's best model.
    """
    overrides = [text for text in arguments.overrides if not _of_one_stage(text)]
    options = ["--config", arguments.config, "--checkpoint", str(model)]
    options += ["--set", *overrides] if overrides else []
    scripts = {"Train it further": "finetune.py"} if run.stage == "pretrain" else {}
    scripts["Evaluate it"] = "evaluate.py"
    _end(
        {
            "Model": str(model),
            "Metrics": _name_files(run.log_dir, "training_step.csv", "validation.csv"),
            "Curves": _name_files(run.log_dir, "*.png"),
            "Log": _name_files(run.log_dir, LOG_FILE),
        },
        {
            purpose: name_command(find_launcher(), script, options)
            for purpose, script in scripts.items()
        },
    )


def end_judging(run: Run, model: Path | None = None) -> None:
    """Print where an evaluation's results are, and the commands that use the model or the results.

    Args:
        run: The run of evaluate.py.
        model: The directory of the evaluated model; None for a file of predictions.
    """
    if not run.accelerator.is_main_process:
        return
    compare = ["--compare", run.config.run.output_dir]
    score = ["--checkpoint", str(model), "--fasta", "YOUR.fasta", "--output", "network.tsv"]
    steps = {"Score your own proteins with this model": score} if model else {}
    steps["Compare all evaluated runs"] = compare
    _end(
        {
            "Report": _name_files(run.log_dir, "report.html"),
            "Metrics": _name_files(run.log_dir, "evaluate.csv", "*.csv", "*.json"),
            "Plots": _name_files(run.log_dir, "*.png"),
            "Predictions": _name_files(run.log_dir, "predictions.txt.gz"),
            "Model": None if model is None else str(model),
            "Log": _name_files(run.log_dir, LOG_FILE),
        },
        {
            purpose: name_command(["python"], "evaluate.py", options)
            for purpose, options in steps.items()
        },
    )


def _end(places: Mapping[str, str | None], steps: Mapping[str, str]) -> None:
    commands = [f"{purpose}:\n  {command}" for purpose, command in steps.items()]
    show("\n".join(["", list_places(places), *commands]))


def _name_files(folder: Path, *patterns: str) -> str | None:
    """Return the first matching file's path and the other files' names; None without a match."""
    found = dict.fromkeys(path for pattern in patterns for path in sorted(folder.glob(pattern)))
    if not found:
        return None
    first, *others = found
    names = ", ".join(path.name for path in others)
    return f"{first} ({names})" if others else str(first)


def _of_one_stage(override: str) -> bool:
    key = override.partition("=")[0].strip()
    return any(key == one or key.startswith(f"{one}.") for one in OF_ONE_STAGE)


def name_command(launcher: Sequence[str], script: str, options: Sequence[str]) -> str:
    """Return the shell command that runs another entry script with these options."""
    return shlex.join([*launcher, str(Path(sys.argv[0]).parent / script), *options])


def find_launcher() -> list[str]:
    """Return the words of the command that launched this script, up to the script's name.

    These are `accelerate launch` and its options if this process's parent is `accelerate launch`,
    and `python` otherwise.
    """
    with contextlib.suppress(OSError, UnicodeError):
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
        options = list(_launch_options(words, Path(sys.argv[0]).name))
        if options:
            return options
    return ["python"]


def _launch_options(words: Sequence[str], script: str) -> Iterator[str]:
    """Yield `accelerate launch` and its options if a command's words contain them."""
    names = [Path(word).name for word in words]
    for start, name in enumerate(names):
        if script in names[start:] and (
            name == "accelerate.commands.launch"
            or (name == "launch" and names[max(start - 1, 0)] == "accelerate")
        ):
            yield from ("accelerate", "launch", *words[start + 1 : names.index(script)])
            return
