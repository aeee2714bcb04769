"""Errors of libraries, when a process beside this one is gone, become one sentence."""

from __future__ import annotations

import pytest

from common.errors import count_of
from common.failures import explain_failure

KILLED = "DataLoader worker (pid 4711) is killed by signal: Killed. "
BUS = (
    "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's"
    " workers are out of shared memory. Please try to raise your shared memory limit."
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (KILLED, "process 4711 was killed by signal: Killed; if"),
        (BUS, "process 12 was killed by signal: Bus error; if"),
        ("DataLoader worker (pid(s) 5, 6) exited unexpectedly", "5, 6 exited unexpectedly; if"),
    ],
)
def test_a_lost_worker_is_named(text: str, said: str) -> None:
    explained = explain_failure(RuntimeError(text))
    assert explained is not None
    assert said in str(explained)
    assert "data_config.dataloader.num_workers" in str(explained)


def test_other_errors_are_not_explained() -> None:
    assert explain_failure(RuntimeError("size mismatch")) is None
    assert explain_failure(ValueError(KILLED)) is None


def test_words_agree_with_a_count() -> None:
    counts = [count_of(count, "pair") for count in (0, 1, 2, 4000)]
    assert counts == ["0 pairs", "1 pair", "2 pairs", "4,000 pairs"]
    assert count_of(1, "line has", "lines have") == "1 line has"
    assert count_of(7, "line has", "lines have") == "7 lines have"
