"""The benchmark for GPUs runs where only its few libraries are, on a CPU in its toy size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.tiny_benchmark import ROOT, run_command

WITHOUT_LIBRARIES = """
import runpy, sys
for name in ("datasets", "evaluate", "pyarrow"):
    sys.modules[name] = None
sys.argv = ["gpu", "--quick", "--output", sys.argv[1]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


@pytest.mark.launch
def test_the_gpu_benchmark_checks_and_measures_every_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, str(tmp_path)]
    finished = run_command(command, tmp_path, PYTHONPATH=str(ROOT))
    assert finished.code == 0, finished.stdout + finished.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert all(row["passed"] for row in report["checks"])
    assert len(report["checks"]) == 7
    for part in ("training", "compiled"):
        assert len(report[part]) == 3
        assert all(row["pairs/s"] > 0 < row["share of peak"] for row in report[part])
    assert report["scoring"][0]["pairs/s"] > 0
    assert report["scoring"][0]["12 proteins, s"] > 0
    assert [row["tokens"] for row in report["embedding"]] == [512, 1024]
    assert report["attention"] in ("varlen", "sdpa")
