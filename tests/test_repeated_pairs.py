"""Test pairs that are listed more than once, and models of synthetic data: what is said of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.data.tables.pairs import PairTable, read_pairs
from common.evaluation.own_summary import warn_if_synthetic
from common.evaluation.tasks.pairs import explain_repeats
from tests.tiny_esm import record_log
from tests.tiny_run import configure


def test_contradictory_and_repeated_pairs_are_noted(tmp_path: Path) -> None:
    """A file with both labels of each pair once gave AUROC 0.5 without a word."""
    lines = ["A B 1", "A C 1", "B C 0", "B A 0", "C A 0", "C B 0", "D D 1"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines).replace(" ", "\t") + "\n")
    notes = explain_repeats(read_pairs(tmp_path / "pairs.txt", tmp_path / "cache"), "test")
    assert [note.partition(", and every line counts; ")[0] for note in notes] == [
        "2 pairs of test are listed with both labels (such as A B)",
        "1 pair of test is listed more than once (such as B C)",
    ]


def test_distinct_pairs_have_no_notes() -> None:
    pairs = np.array([[0, 1], [1, 1], [0, 2]])
    assert (
        explain_repeats(PairTable(("A", "B", "C"), pairs, np.array([1, 0, 1], np.int8)), "x") == []
    )


@pytest.mark.parametrize(("name", "warnings"), [("demo", 1), ("pring", 0)])
def test_own_pairs_hear_that_a_model_is_synthetic(name: str, warnings: int) -> None:
    config = configure(data_config={"benchmark": {"name": name}})
    with record_log() as log:
        warn_if_synthetic(SimpleNamespace(config=config, path=Path("best")))  # type: ignore[arg-type]
    assert log.events() == ["synthetic_model"] * warnings
