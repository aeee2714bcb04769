"""Files of pairs: the fast parser gives what the patient one gives, and what is written is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.tables import pair_file
from common.data.tables.pair_file import PairFormat, read_pair_file, write_pair_file
from common.errors import UserError

LABELS = PairFormat("labels", lambda first: (2,) if len(first) == 3 else None, labels=True)
SCORES = PairFormat("scores", lambda first: {3: (2,), 5: (3, 4)}.get(len(first)))
OWN = PairFormat(
    "pairs",
    lambda first: () if len(first) >= 2 else None,
    ragged=True,
    unknown=lambda name: f"no {name}",
)
PARTS = ["P1", "P2", "é", "0", "1", "0.5", "nan", "\t", "\t", "\n", "\r\n", " ", ",", '"', "#", "x"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs") / "p.txt"


def parsed(parse: Any, path: Path, layout: Any) -> tuple[Any, ...]:
    rows = pair_file._collect(parse, path, layout, pair_file._Ids({"P1", "P2", "0", "1"}))
    return rows.ids, rows.pairs.tolist(), rows.numbers.tolist(), rows.skipped, rows.foreign


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([LABELS, SCORES, OWN]), st.lists(st.sampled_from(PARTS), max_size=30))
def test_the_fast_parser_agrees_with_the_patient_one_wherever_it_answers(
    path: Path, form: PairFormat, parts: list[str]
) -> None:
    path.write_text("".join(parts), newline="")
    try:
        layout = pair_file._find_layout(path, form)
        assert layout is not None
        fast = parsed(pair_file._arrow_blocks, path, layout)
    except (UserError, ValueError, AssertionError):
        return
    np.testing.assert_equal(fast, parsed(pair_file._patient_blocks, path, layout))


@pytest.mark.parametrize("mark", ["\t", " ", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "# comment\n\n"])
def test_regular_files_are_parsed_fast(
    path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, end: str, head: str
) -> None:
    def refuse(*_: Any) -> Iterator[Any]:
        raise AssertionError("parsed line by line")

    monkeypatch.setattr(pair_file, "_patient_blocks", refuse)
    lines = [["A", "B", "1"], ["sp|B1|X", "A", "0"]]
    path.write_text(head + "".join(mark.join(line) + end for line in lines), newline="")
    rows = read_pair_file(path, LABELS)
    assert rows is not None
    assert (rows.ids, rows.pairs.tolist()) == (["A", "B1", "B"], [[0, 2], [1, 0]])
    assert rows.numbers.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P1\tP2\nP1\tX\n", "line 2: no X"),
        ("P1\tP2\tfree text, of any kind\nP1  X\n", "line 2: no X"),
        ("P1 P2\nP1\n", "line 2: 'P1' has 1 columns"),
        ("P1\n", "line 1: 'P1' is not pairs"),
    ],
)
def test_a_line_with_an_unknown_protein_is_found(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_pair_file(path, OWN, {"P1", "P2"})


@pytest.mark.parametrize("name", ["A", 'a"b'])
@pytest.mark.parametrize("suffix", [".tsv", ".gz"])
def test_columns_are_written_with_their_header_and_read_back(
    tmp_path: Path, name: str, suffix: str
) -> None:
    path = tmp_path / f"p{suffix}"
    pairs, scores = np.array([[0, 1], [1, 1]]), np.array([0.1 + 0.2, 1e-9])
    columns: dict[str, Any] = {"score": scores, "call": np.array([1, 0], np.int8)}
    write_pair_file(path, [name, "B"], pairs, columns, header=True)
    numbers: Callable[[list[str]], Any] = lambda first: (2, 3)  # noqa: E731
    form = PairFormat("", numbers, is_header=lambda first: first[2:] == ["score", "call"])
    rows = read_pair_file(path, form)
    assert rows is not None
    assert (rows.ids, rows.pairs.tolist(), rows.header) == ([name, "B"], [[0, 1], [1, 1]], 1)
    assert rows.numbers.tolist() == [scores.tolist(), [1, 0]]
