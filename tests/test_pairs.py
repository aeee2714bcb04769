"""Pair files: read rightly or refused by line; pairs and who of them lacks a sequence."""

from __future__ import annotations

import gzip
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from common.data.tables import pairs
from common.data.tables.pairs import (
    MissingReport,
    PairTable,
    all_pairs,
    check_sequences,
    read_pairs,
)
from common.errors import UserError

LINES = "P2\tP1\t1\nP1\tP1\t0\nP3\tP2\t1\n"


def rows(table: PairTable) -> list[tuple[str, str, int]]:
    return [
        (table.proteins[a], table.proteins[b], int(label))
        for (a, b), label in zip(table.pairs, table.labels, strict=True)
    ]


EXPECTED = [("P2", "P1", 1), ("P1", "P1", 0), ("P3", "P2", 1)]


def test_pairs_are_row_numbers_into_the_sorted_proteins(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(LINES)
    table = read_pairs(tmp_path / "p.txt", tmp_path / "cache")
    assert table.proteins == ("P1", "P2", "P3")
    assert table.pairs.tolist() == [[1, 0], [0, 0], [2, 1]]
    assert table.labels.tolist() == [1, 0, 1]
    assert (str(table.pairs.dtype), str(table.labels.dtype)) == ("int64", "int8")
    assert table.is_self.tolist() == [False, True, False]
    assert len(table) == 3


@pytest.mark.parametrize(
    "content",
    [
        LINES.replace("\t", " ").encode(),
        LINES.replace("\t", "  \t ").encode(),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.encode() + b"\n \n\t\n",
        LINES.rstrip("\n").encode(),
        LINES.replace("\n", " \n").encode(),
        LINES.replace("\t", ",").encode(),
        LINES.replace("\t", ", ").encode(),
        LINES.replace("1\n", "1.0\n").replace("\t0", "\t0.0").encode(),
        LINES.replace("P1", "sp|P1|ONE_HUMAN").encode(),
        b"# header\n#two\tcolumns\n" + LINES.encode() + b"#P9\tP9\t1\n",
    ],
)
def test_harmless_differences_of_form_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    assert rows(read_pairs(tmp_path / "p.txt", tmp_path / "cache")) == EXPECTED
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress(content, mtime=0))
    assert rows(read_pairs(tmp_path / "p.txt.gz", tmp_path / "other")) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES + "P1\tP3\t2\n", "line 4: the label '2' is neither 0 nor 1"),
        (LINES + "P1\tP3\t1.5\n", "line 4: the label '1.5'"),
        (LINES + "P1\tP3\tnan\n", "line 4: the label 'nan'"),
        (LINES + "P1\tP3\tyes\n", "line 4: the label 'yes'"),
        (LINES + "P1\tP3\t-1\n", "line 4: the label '-1'"),
        ("protein_a\tprotein_b\tlabel\n" + LINES, "line 1: the label 'label'"),
        (LINES + "P1\tP3\n" + LINES, "line 4: 'P1 P3' has 2 columns, but line 1 has 3"),
        (LINES + "P1\t\t1\n", "line 4: 'P1 1' has 2 columns"),
        (LINES + "P1\tP3\t1\t0.5\n", "line 4: 'P1 P3 1 0.5' has 4 columns"),
        (LINES + "\n\nP1 P3\n", "line 6: 'P1 P3' has 2 columns"),
        ('"P1\tP2\t1\n' + 'P1"\tP2\n', "line 2: 'P1\" P2' has 2 columns"),
        ("P1\tP2\t1\t0.5\n", "line 1: 'P1 P2 1 0.5' is not 'protein protein label'"),
        ("", "contains no pairs"),
        ("# none\n", "contains no pairs"),
        ("\n\n", "contains no pairs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_pairs(path, tmp_path / "cache")
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_unreadable_pair_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.txt"):
        read_pairs(tmp_path / "absent.txt", tmp_path / "cache")
    (tmp_path / "p.txt").write_bytes(b"P1\tP2\t1\nP1\tP\x81\t1\n")
    with pytest.raises(UserError, match=r"p.txt, line 2: the line is neither UTF-8 nor Windows"):
        read_pairs(tmp_path / "p.txt", tmp_path / "cache")


def test_a_changed_file_is_never_served_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.txt"
    path.write_text(LINES)
    first = read_pairs(path, tmp_path / "cache")
    path.write_text(LINES.replace("P3\tP2\t1", "P3\tP2\t0"))
    assert read_pairs(path, tmp_path / "cache").labels.tolist() == [1, 0, 0]
    path.write_text(LINES)
    monkeypatch.setattr(pairs, "_parse_pairs", None)
    assert rows(read_pairs(path, tmp_path / "cache")) == rows(first)


def test_select_keeps_only_the_proteins_still_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(LINES)
    table = read_pairs(tmp_path / "p.txt", tmp_path / "cache")
    kept = table.select(np.array([False, False, True]))
    assert kept.proteins == ("P2", "P3")
    assert rows(kept) == EXPECTED[2:]
    assert rows(table.select(np.array([2, 0]))) == [EXPECTED[2], EXPECTED[0]]
    assert len(table.select(np.zeros(3, bool))) == 0


def test_all_pairs_by_hand() -> None:
    table = all_pairs(nx.Graph([("b", "a"), ("c", "c")]))
    assert rows(table) == [
        ("a", "a", 0), ("a", "b", 1), ("a", "c", 0), ("b", "b", 0), ("b", "c", 0), ("c", "c", 1),
    ]  # fmt: skip


# Sequences of the pairs


@pytest.fixture
def table(tmp_path: Path) -> PairTable:
    (tmp_path / "p.txt").write_text(LINES)
    return read_pairs(tmp_path / "p.txt", tmp_path / "cache")


def test_complete_sequences_pass(table: PairTable) -> None:
    sequences = dict.fromkeys(["P1", "P2", "P3", "P4"], "AC")
    assert check_sequences(table, sequences, "refuse", "x") == (table, None)


def test_missing_sequences_are_refused_with_count_names_and_remedy(table: PairTable) -> None:
    with pytest.raises(UserError) as error:
        check_sequences(table, {"P1": "AC", "P2": "AC"}, "refuse", "human train pairs")
    assert str(error.value) == (
        "human train pairs: 1 of 3 proteins (P3) have no sequence, which affects 1 of 3 pairs;"
        " add the sequences to the FASTA file of the same species, or set"
        " data_config.benchmark.missing_sequences: drop"
    )


def test_missing_sequences_are_dropped_and_reported(table: PairTable) -> None:
    kept, report = check_sequences(table, {"P1": "AC", "P2": "AC"}, "drop", "x")
    assert rows(kept) == EXPECTED[:2]
    assert report == MissingReport(pairs=1, proteins=1, names=("P3",))


def test_dropping_every_pair_is_refused(table: PairTable) -> None:
    with pytest.raises(UserError, match=r"3 of 3 proteins \(P1, P2, P3\) have no sequence"):
        check_sequences(table, {}, "drop", "x")
