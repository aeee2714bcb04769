"""The steps of `scripts/leaderboard.sh` that are not a training or an evaluation.

    python -m benchmarks.leaderboard note DIR METHOD       hardware, commit and date of a run
    python -m benchmarks.leaderboard predict DIR METHOD --config C [--set KEY=VALUE ...] --like ...
    python -m benchmarks.leaderboard render ROOT           leaderboard.csv and leaderboard.md

`predict` scores pairs without training a model, with a baseline or, for the method `ensemble`, with
the mean of the ranks that the models of `--like` give to a pair: ranks need no common scale, and
are not dominated by the most confident model. It writes `predictions.txt.gz` and prints the
threshold: it predicts as many interactions as the models of `--like` on average, whose thresholds
were chosen on validation proteins. No test label is used.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.leaderboard_table import render
from common.command_line import run_script
from common.config_file import load_config
from common.errors import UserError
from common.evaluation.baselines.base import predict_baseline
from common.evaluation.comparison import match_calls
from common.evaluation.prediction_file import read_predictions, write_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import open_test_side
from common.files import explain_disk_errors, write_atomically
from common.provenance import commit
from common.run import OneProcess, log_to_console

NOTE_FILE, PREDICTIONS_FILE = "leaderboard.json", "predictions.txt.gz"


def note(folder: Path, method: str, **fields: object) -> None:
    """Write the facts about a run that its artifacts do not contain: hardware, commit, date."""
    content = {
        "method": method,
        "hardware": describe_hardware(),
        "commit": commit() or "unknown",
        "date": datetime.date.today().isoformat(),
        **fields,
    }
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / NOTE_FILE, json.dumps(content, indent=1) + "\n")


def describe_hardware() -> str:
    """Name the GPUs, or else the CPU with the number of threads that the run may use."""
    # The driver's files: torch, which knows them too, takes seconds to import.
    gpus = _models(Path("/proc/driver/nvidia/gpus").glob("*/information"), "Model")
    if gpus:
        return f"{len(gpus)} x {gpus[0]}"
    names = _models([Path("/proc/cpuinfo")], "model name") or [platform.machine()]
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    return f"{names[0]}, {threads} of {os.cpu_count()} cores"


def _models(files: Iterable[Path], key: str) -> list[str]:
    """Return the values of a key in files of lines `key : value`; missing files have none."""
    lines = [line for file in files if file.is_file() for line in file.read_text().splitlines()]
    parts = [line.partition(":") for line in lines]
    return [value.strip() for name, _, value in parts if name.strip() == key]


def predict(folder: Path, method: str, config: str, overrides: Sequence[str], like: Sequence[Path]
            ) -> float:  # fmt: skip
    """Write the predictions of a method that trains no model, and return its threshold.

    Args:
        folder: The run's directory.
        method: A baseline, or `ensemble`.
        config: The configuration file.
        overrides: Its `KEY=VALUE` overrides.
        like: Runs of models. The threshold predicts as many interactions as these models do on
            average, and an ensemble consists of them.

    Raises:
        UserError: One of these runs has not been evaluated, or they scored different pairs.
    """
    models = [(read_judged(run), _threshold(run)) for run in like]
    count = round(np.mean([(each.scores >= least).sum() for each, least in models]))
    started = time.monotonic()
    if method == "ensemble":
        found = average_ranks([each for each, _ in models], like)
    else:
        # Scores that another run has left in the cache would take no time.
        own_cache = f"data_config.benchmark.cache_dir={folder / 'cache'}"
        settings = load_config(config, "evaluate", [*overrides, own_cache])
        with log_to_console(OneProcess()):
            found = predict_baseline(method, open_test_side(settings), settings.run.seed)
    note(folder, method, seconds=time.monotonic() - started, members=[str(run) for run in like])
    write_predictions(folder / PREDICTIONS_FILE, found.ids, found.pairs, found.scores)
    return match_calls(found.scores, count)


def average_ranks(members: Sequence[Predictions], names: Sequence[Path]) -> Predictions:
    """Score every pair by the mean of its ranks, each as a fraction of all pairs (0 to 1).

    Raises:
        UserError: The members scored different pairs.
    """
    first = members[0]
    for member, name in zip(members, names, strict=True):
        if member.ids != first.ids or not np.array_equal(member.pairs, first.pairs):
            raise UserError(
                f"the predictions of {name} and {names[0]} list different pairs, so they cannot be"
                " averaged; evaluate both on the same benchmark and tasks"
            )
    ranks = [rankdata(member.scores) / len(member.scores) for member in members]
    return Predictions(first.ids, first.pairs, np.mean(ranks, axis=0))


def read_judged(run: Path) -> Predictions:
    """Read the predictions on which a run was evaluated."""
    return read_predictions(_judged_file(run, PREDICTIONS_FILE))


def _threshold(run: Path) -> float:
    content = json.loads(_judged_file(run, "network.json").read_text())
    return float(content["threshold"])


def _judged_file(run: Path, name: str) -> Path:
    """Return the path of a file of the run's evaluation, or of the run itself."""
    found = [*run.glob(f"logs/*/evaluate/run/{name}"), *run.glob(name)]
    if not found:
        raise UserError(f"{run} has no {name}; run scripts/leaderboard.sh for its method first")
    return found[0]


def main() -> None:
    """Run the step that the command line names."""
    parser = argparse.ArgumentParser(prog="leaderboard", description=__doc__)
    parser.add_argument("step", choices=["note", "predict", "render"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("method", nargs="?", default="")
    parser.add_argument("--config")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[])
    parser.add_argument("--like", type=Path, nargs="+", default=[])
    given: Any = parser.parse_args()
    if given.step == "note":
        note(given.folder, given.method)
    elif given.step == "predict":
        print(predict(given.folder, given.method, given.config, given.overrides, given.like))
    else:
        print(render(given.folder))


if __name__ == "__main__":
    run_script(main)
