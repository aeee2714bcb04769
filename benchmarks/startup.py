"""Measure how long a user waits for help, for an error in the configuration and for a first event.

    python -m benchmarks.startup [--runs 3] [--output FILE.json]

The baseline is a script that, like most, imports its libraries at the top: it parses its arguments
only after all libraries are loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.workload import Row, run_benchmark, take_time

ROOT = Path(__file__).parents[1]
NAIVE = "import torch, accelerate, transformers, datasets, evaluate"
WAITS = {
    "imports at the top (baseline)": ["-c", NAIVE],
    "pretrain.py --help": ["pretrain.py", "--help"],
    "evaluate.py --help": ["evaluate.py", "--help"],
    "wrong config key": [
        *("pretrain.py", "--config", "configs/demo.yaml", "--set", "training_config.epoch=3")
    ],
    "evaluate.py --predictions, no such file": [
        *("evaluate.py", "--config", "configs/demo.yaml", "--predictions", "/nowhere/file")
    ],
    "imports of pretrain.py": [
        "-c",
        "import common.data.splits, common.launch, common.training.session",
    ],
}


def run(arguments: list[str]) -> None:
    """Run a fresh interpreter, and discard its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        if "-c" in arguments:
            # Otherwise `evaluate` would be this project's script.
            environment["PYTHONPATH"] = "" if NAIVE in arguments else str(ROOT)
            command = [sys.executable, *arguments]
        else:
            given = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments[1:]]
            command = [sys.executable, str(ROOT / arguments[0]), *given]
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def measure(runs: int) -> list[Row]:
    """Measure the seconds of every wait, interleaved, with all files in the system's cache."""
    taken: dict[str, list[float]] = {name: [] for name in WAITS}
    for arguments in WAITS.values():
        run(arguments)
    for _ in range(runs):
        for name, arguments in WAITS.items():
            taken[name].append(take_time(lambda: run(arguments)).wall)  # noqa: B023
    naive = np.array(next(iter(taken.values())))
    return [
        {
            "wait": name,
            "seconds": min(seconds),
            "share of the baseline": float(np.median(np.array(seconds) / naive)),
        }
        for name, seconds in taken.items()
    ]


if __name__ == "__main__":
    run_benchmark(
        "Time how long the scripts take to answer.",
        {"waits": lambda arguments: measure(arguments.runs)},
        runs=3,
    )
