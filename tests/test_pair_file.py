"""Files of pairs: read whatever their form, refused by line, and what is written is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.tables.pair_file import PairFormat, read_pair_file
from common.data.tables.pair_writer import write_pair_file
from common.errors import UserError

LABELS = PairFormat("labels", lambda first: (2,) if len(first) == 3 else None, labels=True)
SCORES = PairFormat("scores", lambda first: {3: (2,), 5: (3, 4)}.get(len(first)))
OWN = PairFormat(
    "pairs",
    lambda first: () if len(first) >= 2 else None,
    ragged=True,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "p.txt"


@pytest.mark.parametrize("mark", ["\t", " ", "  ", " \t", ",", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("head", ["", "# comment\n\n"])
def test_pairs_are_read_whatever_separates_them(path: Path, mark: str, end: str, head: str) -> None:
    lines = [["A", "B", "1"], ["sp|B1|X", "A", "0"]]
    path.write_text(head + "".join(mark.join(line) + end for line in lines), newline="")
    rows = read_pair_file(path, LABELS)
    assert rows is not None
    assert (rows.ids, rows.pairs.tolist()) == (["A", "B1", "B"], [[0, 2], [1, 0]])
    assert rows.numbers.tolist() == [[1, 0]]


@pytest.mark.parametrize("mark", ["\t", "  ", ","])
def test_further_columns_are_ignored_where_their_number_may_differ(path: Path, mark: str) -> None:
    lines = [["A", "B"], ["B", "C", "x", "y,z"], ["C", "A", ""]]
    path.write_text("\n".join(mark.join(line) for line in lines))
    rows = read_pair_file(path, OWN)
    assert rows is not None
    assert [[rows.ids[a], rows.ids[b]] for a, b in rows.pairs] == [
        ["A", "B"], ["B", "C"], ["C", "A"]
    ]  # fmt: skip
    assert rows.numbers.shape == (0, 3)


def test_numbers_that_only_one_line_writes_oddly_are_read_in_every_block(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of a few lines, one with a number that Arrow alone does not read."""
    for module in ("text", "text_table"):
        monkeypatch.setattr(f"common.data.tables.{module}.BLOCK_BYTES", 64)
    numbers = [place / 8 for place in range(50)]
    lines = [f"A,B{place},{number}" for place, number in enumerate(numbers)]
    path.write_text("\n".join(lines).replace(",3.0", ", 3.0 "))
    rows = read_pair_file(path, SCORES, {"A", *(f"B{place}" for place in range(40))})
    assert rows is not None
    assert rows.numbers.tolist() == [numbers[:40]]
    assert (rows.skipped, rows.foreign, len(rows.ids)) == (10, "B40", 41)
    path.write_text("\n".join([*lines, "A,B,x"]))
    with pytest.raises(UserError, match="line 51: 'x' is not a number"):
        read_pair_file(path, SCORES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("P1 P2\nP1\n", "line 2: 'P1' has 1 column, but line 1 has 2, and .* columns [(]pairs[)]"),
        ("P1,P2\nP1,\n", "line 2: a protein id is missing"),
        ("P 1\tP2\n", "line 1: 'P 1 P2' is not pairs"),
        ("P1\tP2\nP1\tP\u200b\n", r"line 2: the id 'P.u200b' contains"),
        ("P1\n", "line 1: 'P1' is not pairs"),
    ],
)
def test_a_wrong_line_is_found(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_pair_file(path, OWN)


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
