"""Jobs that start at once on one benchmark directory: one prepares it, the others read it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.data import preparation
from common.data.benchmarks.demo import generate
from common.data.turns import in_turn
from common.errors import UserError
from tests.test_own_interactions import inputs, pairs, settings_of  # noqa: F401 (fixtures)
from tests.tiny_benchmark import ROOT
from tests.tiny_demo import MINIATURE
from tests.tiny_esm import record_log


def run_two(work: Callable[[], object], patch: pytest.MonkeyPatch, module: Any, name: str) -> int:
    """Two threads do a work, the second when the first is at the patched step: how often it ran."""
    step, calls, arrived = getattr(module, name), list[int](), threading.Event()

    def slow(*arguments: Any) -> Any:
        calls.append(1)
        arrived.set()
        until = time.monotonic() + 10
        while "benchmark_waiting" not in log.events() and time.monotonic() < until:
            time.sleep(0.01)
        return step(*arguments)

    patch.setattr(module, name, slow)
    threads = [threading.Thread(target=work) for _ in range(2)]
    with record_log() as log:
        threads[0].start()
        assert arrived.wait(10)
        threads[1].start()
        for thread in threads:
            thread.join(60)
    assert log.events().count("benchmark_waiting") == 1
    return len(calls)


def test_a_benchmark_that_another_process_prepares_is_waited_for(
    tmp_path: Path,
    inputs: dict[str, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was prepared twice, and replaced under the eyes of the job that was reading it."""
    own = settings_of(inputs)

    def prepare() -> None:
        preparation.ensure_prepared(tmp_path / "own", "mine", own, 47)

    assert run_two(prepare, monkeypatch, preparation, "read_material") == 1

    def prepare_demo() -> None:
        generate.ensure_demo(tmp_path / "demo", spec=MINIATURE)

    assert run_two(prepare_demo, monkeypatch, generate, "_generate") == 1


HOLDER = """
import sys; from pathlib import Path; from common.data.turns import hold
hold(Path(sys.argv[1])); print("held", flush=True); sys.stdin.read()
"""


def test_a_benchmark_that_another_process_uses_is_not_replaced(
    tmp_path: Path,
    inputs: dict[str, Path],  # noqa: F811
) -> None:
    """Two jobs with different settings replaced each other's benchmark."""
    root, own = tmp_path / "own", settings_of(inputs)
    preparation.ensure_prepared(root, "mine", own, 47)
    command = [sys.executable, "-c", HOLDER, str(root / preparation.MARKER)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        preparation.ensure_prepared(root, "mine", own, 47)
        with pytest.raises(UserError, match=r"own\) contains .* in use by another process"):
            preparation.ensure_prepared(root, "mine", own, 48)
        other.communicate()
    preparation.ensure_prepared(root, "mine", own, 48)
    assert json.loads((root / preparation.MARKER).read_text())["seed"] == 48


def test_a_turn_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="planted"), in_turn(tmp_path / "new" / "one"):
        raise ValueError("planted")
    with record_log() as log, in_turn(tmp_path / "new" / "one"):
        assert log.events() == []
    assert list((tmp_path / "new").iterdir()) == []
