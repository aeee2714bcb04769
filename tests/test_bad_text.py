"""Bad text files: pairs, FASTA and predictions are read as a slow oracle reads them, or refused.

Cases: pairs 350, FASTA 350, predictions 350 (`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.tables.fasta import read_fasta
from common.data.tables.pairs import PairTable, read_pairs
from common.evaluation.prediction_file import read_predictions
from common.evaluation.predictions import Predictions
from tests.bad_input import (
    Packing,
    Refused,
    assert_tried,
    attempt,
    cases,
    check,
    lines_of,
    named_line,
    packings,
    text_of,
)

IDS = ["P1", "P2", "Q9-2", "A0A024R1R8", "β2", "sp|P1|X", "0", "1", '"P1', "P1,P2", "#P", "nan"]
ODD_IDS = ["\ufeffP1", "P\0", "P\u200b1", "P1\x1b[31m", "\u202eP1", "P 1", "", "P" * 70_000]
SEPARATORS = ["\t", "\t", " ", ",", ", ", "  ", "\t ", "\t\t", "\u3000", "\x1f", "\xa0"]
LINE_ENDS = ["\n", "\n", "\r\n", "\r", "\n\n", " \n"]
# What separates no columns, or not always, and what ends no line although many programs think so.
ODD_SEPARATORS, ODD_ENDS = [",", ";", "", "\\t", "\u200b"], ["\x0b", "\x0c", "\x85", "\u2028", ""]

Fields = list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


def rows_of(*columns: Sequence[str]) -> st.SearchStrategy[Fields]:
    return st.tuples(*map(st.sampled_from, columns)).map(list)


def odd_rows_of(*columns: Sequence[str]) -> st.SearchStrategy[Fields]:
    """Any of these values anywhere, a column missing or one too many."""
    values = st.sampled_from([value for column in columns for value in column])
    return st.one_of(rows_of(*columns), st.lists(values, max_size=6))


@st.composite
def texts(
    draw: st.DrawFn,
    rows: st.SearchStrategy[Fields],
    odd_rows: st.SearchStrategy[Fields],
    separators: Sequence[str] = SEPARATORS,
) -> str:
    """A text of a few right rows in some form, half the time with one odd row or an odd form."""
    lines = draw(st.lists(rows, max_size=6))
    ends, oddity = LINE_ENDS, draw(st.integers(0, 7))
    if oddity < 3:
        lines.insert(draw(st.integers(0, len(lines))), draw(odd_rows))
    elif oddity == 3:
        separators, ends = [*separators, *ODD_SEPARATORS], [*LINE_ENDS, *ODD_ENDS]
    form = st.tuples(st.sampled_from(separators), st.sampled_from(ends))
    # One form for the whole file, as programs write it, or another on every line.
    forms = [draw(form)] * len(lines) if draw(st.booleans()) else [draw(form) for _ in lines]
    text = "".join(part.join(line) + end for line, (part, end) in zip(lines, forms, strict=True))
    start = draw(st.sampled_from(["", "", "", "\ufeff", "\n", " \n"]))
    return start + (text if draw(st.booleans()) else text.rstrip("\r\n"))


# Pair files

LABELS = ["0", "1", "0.0", "1.0"]
ODD_LABELS = ["2", "1.5", "nan", "", "x", "1_0", "-1", "True", "\uff11", "1\0", "0" * 999]
pair_files = texts(
    rows_of(IDS, IDS, LABELS), odd_rows_of(IDS + ODD_IDS, IDS, LABELS * 3 + ODD_LABELS)
)


def triples(table: PairTable) -> list[tuple[str, str, int]]:
    names = np.array(table.proteins, object)[table.pairs]
    return [(a, b, int(label)) for (a, b), label in zip(names, table.labels, strict=True)]


def nul_lines(text: str) -> set[int]:
    """The numbers of lines that are wrong in any file, comments too."""
    return {number for number, line in lines_of(text) if "\0" in line}


def content_lines(text: str) -> list[tuple[int, str]]:
    """The lines of a pair file that are neither blank nor comments, with their numbers."""
    lines = [(number, line.strip()) for number, line in lines_of(text)]
    return [(number, line) for number, line in lines if line and line[0] != "#"]


def splitter(first: str, counts: Collection[int], headers: bool) -> Callable[[str], Fields]:
    """Split lines as the first line shows: at white space or at commas."""
    by_tabs, by_commas = ([part.strip() for part in first.split(mark)] for mark in "\t,")
    if (len(by_tabs) in counts and all(by_tabs)) or len(by_commas) not in counts:
        return str.split
    is_header = headers and not any(map(begins_like_a_number, first.split() + by_commas[2:]))
    if all(by_commas) and (is_header or all(len(name.split()) == 1 for name in by_commas[:2])):
        return lambda line: [part.strip() for part in line.split(",")]
    return str.split


def is_id(name: str) -> bool:
    return name.isprintable() and len(name.split()) == 1


def short(name: str) -> str:
    return re.sub(r"^(sp|tr)\|([^|]+)\|.*", r"\2", name)


def expected_pairs(text: str) -> tuple[list[tuple[str, str, int]], set[int]]:
    """The rows of a pair file, and the numbers of its wrong lines."""
    rows, wrong = [], set()
    lines = content_lines(text)
    split = splitter(lines[0][1], {3}, headers=False) if lines else str.split
    for number, fields in [(number, split(line)) for number, line in lines]:
        right = len(fields) == 3 and is_number(fields[2]) and float(fields[2]) in (0, 1)
        if right and is_id(fields[0]) and is_id(fields[1]):
            rows.append((short(fields[0]), short(fields[1]), int(float(fields[2]))))
        else:
            wrong.add(number)
    return rows, wrong | nul_lines(text)


@cases(350)
@given(pair_files, packings())
def test_pair_files(folder: Path, text: str, packing: Packing) -> None:
    path, cache = packing.store(folder, text), folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    read = attempt("pairs", lambda: triples(read_pairs(path, cache)), path)
    rows, wrong = expected_pairs(text_of(path) or "")
    if rows or wrong:
        check(read, rows, wrong, path)
    else:
        assert isinstance(read, Refused)
    assert not isinstance(read, Refused) or not cache.exists()


# FASTA: a record is a row, and its lines are the columns.

HEADERS = [
    ">P1", ">P2 a name", "> P3", ">sp|P12345|AATM_RABIT Aspartate", ">tr|Q1|X", ">sp||X", ">sp|P9",
    ">gi|5|z", ">β2", ">P1\tx", "  >P7", *(f">N{number}" for number in range(20)),
]  # fmt: skip
ODD_HEADERS = [">", "> ", ">\ufeffP1", ">P\0", ">P\u200b1 x", "\ufeff>P1", ">" + "P" * 70_000]
RESIDUES = ["ACDE", "mkwv", "MUXBZ", "A", " ACD", "ACD ", "ACD\x0b", "", "A" * 200_000]
LAST_RESIDUES = ["ACD*", "*", "ACDE", " acd* "]
ODD_RESIDUES = ["AC-E", "AC.E", "AC E", "A*C", "AC**", "AC4", "ACß", "ﬀ", "; note", "AC\0", "1\t2"]
records = st.one_of(rows_of(HEADERS, RESIDUES, LAST_RESIDUES), rows_of(HEADERS, ["ACD", "mk*"]))
odd_records = odd_rows_of(HEADERS + ODD_HEADERS, RESIDUES, LAST_RESIDUES, ODD_RESIDUES)
fasta_files = texts(records, odd_records, ["\n", "\n", "\r\n", "\r", "\n\n"])


def header_id(line: str) -> str | None:
    """The id of a header, None where it has none that can be seen."""
    words = line[1:].split()
    if not words or not words[0].isprintable():
        return None
    parts = words[0].split("|")
    is_uniprot = len(parts) > 2 and parts[0] in {"sp", "tr"} and parts[1]
    return parts[1] if is_uniprot else words[0]


def expected_sequences(text: str) -> tuple[dict[str, str], set[int]]:
    """The sequences of a FASTA text, and the numbers of the lines that one may blame."""
    entries: list[tuple[int, str, list[tuple[int, str]]]] = []
    wrong = set()
    for number, line in [(number, line.strip()) for number, line in lines_of(text)]:
        if line.startswith(">"):
            name = header_id(line)
            entries.append((number, name or "", []))
            wrong |= set() if name else {number}
        elif line and entries:
            entries[-1][2].append((number, line))
        elif line:
            wrong.add(number)
    sequences: dict[str, str] = {}
    for number, name, lines in entries:
        sequence = "".join(line for _, line in lines).removesuffix("*").upper()
        if not sequence or sequences.setdefault(name, sequence) != sequence:
            wrong.add(number)
        wrong |= wrong_residue_lines(lines)
    return sequences, wrong | nul_lines(text)


def wrong_residue_lines(lines: list[tuple[int, str]]) -> set[int]:
    """Lines with anything but letters, or after the stop with which the last line may end."""
    wrong = {number for number, line in lines if not re.fullmatch(r"[A-Za-z]*\*?", line)}
    stopped = [line.endswith("*") for _, line in lines]
    return wrong | {number for (number, _), stop in zip(lines[1:], stopped, strict=False) if stop}


@cases(350)
@given(fasta_files, packings())
def test_fasta_files(folder: Path, text: str, packing: Packing) -> None:
    path = packing.store(folder, text)
    read = attempt("fasta", lambda: read_fasta(path), path)
    sequences, wrong = expected_sequences(text_of(path) or "")
    if sequences or wrong:
        check(read, sequences, wrong, path)
    else:
        assert isinstance(read, Refused)


# Prediction files

NUMBERS = ["0", "1", "0.5", "0.25", ".5", "1.", "+1", "-2", "1e-3", "2E2", "nan", "-inf", "1e999"]
ODD_NUMBERS = ["x", "0,5", "1e", "0x1", "1_0", "٣", '"1"', "--1", "", "1" * 5 + "x" * 9999]
TRUTHS = ["0", "1", "?"]
prediction_files = st.one_of(
    texts(rows_of(IDS, IDS, NUMBERS), odd_rows_of(IDS + ODD_IDS, IDS, NUMBERS + ODD_NUMBERS)),
    texts(
        rows_of(IDS, IDS, TRUTHS, NUMBERS, NUMBERS),
        odd_rows_of(IDS + ODD_IDS, IDS, TRUTHS, NUMBERS, NUMBERS + ODD_NUMBERS),
    ),
)
headers = st.sampled_from(["", "", "", "a\tb\tlabel\n", "a b truth p_neg p_pos\r\n"])


def is_number(text: str) -> bool:
    """Whether a program of any language would take it for a number."""
    return bool(re.fullmatch(r"[+-]?(nan|inf|([0-9]+\.?|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?)", text))


def begins_like_a_number(text: str) -> bool:
    """Whether a first line with it in a column of numbers is a pair, if a wrong one: no header."""
    if is_number(text):
        return True
    bare = text.lstrip("\"'<>=~+-")
    return bare[:1] in set("0123456789") or (bare[1:2] in set("0123456789") and bare[0] in ".,")


def call(negative: float, positive: float) -> float:
    """The score of five columns: at least 0.5 exactly where the benchmark adds an edge."""
    if math.isnan(negative) or math.isnan(positive):
        return math.nan
    difference = 0.0 if positive == negative else positive - negative
    score = 0.5 + difference / 2
    return max(score, 0.5) if positive > negative else min(score, math.nextafter(0.5, 0))


def expected_scores(text: str) -> tuple[dict[tuple[str, str], float], set[int]]:
    """The highest score of every pair of a prediction file, and its wrong lines' numbers."""
    content = content_lines(text)
    if not content:
        return {}, nul_lines(text)
    split = splitter(content[0][1], {3, 5}, headers=True)
    lines = [(number, split(line)) for number, line in content]
    number, first = lines[0]
    if len(first) not in {3, 5}:
        return {}, {number}
    scored: list[tuple[list[str], list[float]]] = []
    wrong = set()
    for number, fields in lines[0 if any(map(begins_like_a_number, first[2:])) else 1 :]:
        numbers = fields[2:] if len(first) == 3 else fields[3:]
        right = len(fields) == len(first) and all(map(is_id, fields[:2]))
        if not right or not all(map(is_number, numbers)):
            wrong.add(number)
            continue
        scored.append((sorted(map(short, fields[:2])), [float(number) for number in numbers]))
    found: dict[tuple[str, str], float] = {}
    for (a, b), values in scored:
        score = values[0] if len(first) == 3 else call(*values)
        if not math.isnan(score):
            found[a, b] = max(score, found.get((a, b), -math.inf))
    return found, wrong | nul_lines(text)


def scores_by_pair(predictions: Predictions) -> dict[tuple[str, str], float]:
    names = [(predictions.ids[a], predictions.ids[b]) for a, b in predictions.pairs]
    return dict(zip(names, predictions.scores.tolist(), strict=True))


@cases(350)
@given(headers, prediction_files, packings())
def test_prediction_files(folder: Path, header: str, text: str, packing: Packing) -> None:
    path = packing.store(folder, header + text)
    read = attempt("predictions", lambda: scores_by_pair(read_predictions(path)), path)
    known = text_of(path)
    if known is None:
        assert isinstance(read, Refused)
    else:
        check(read, *expected_scores(known), path)


# Stories


def store(folder: Path, content: str | bytes, name: str = "story.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("odd", ODD_IDS[:5])
def test_ids_that_cannot_be_seen_whole_are_refused(folder: Path, odd: str) -> None:
    """Two files put together left a byte order mark within: its protein became another one."""
    readers: list[tuple[str, Callable[[Path], Any]]] = [
        (f"P1\tP2\t1\n{odd}\tP2\t0\n", lambda path: read_pairs(path, folder / "cache")),
        (f"P1\tP2\t1\n{odd}\tP2\t0\n", read_predictions),
        (f"P1\tP2\t0\t0\t1\n{odd}\tP2\t0\t0\t1\n", read_predictions),
        (f">P1\n>{odd}\nAC\n".replace("P1\n", "P1 AC\nAC\n"), read_fasta),
    ]
    for text, reader in readers:
        path = store(folder, text)
        refused = attempt("stories", partial(reader, path), path)
        assert isinstance(refused, Refused)
        assert named_line(refused, path) in (2, 3)


def test_a_line_of_a_megabyte_is_not_repeated_in_the_refusal(folder: Path) -> None:
    long = "x" * 1_000_000
    for text in (f"P1\tP2\t{long}\n", f"{long}\tP2\t2\n", f"P1\tP2\t1\t{long}\n"):
        path = store(folder, text)
        pairs = attempt("stories", lambda: read_pairs(path, folder / "cache"), path)  # noqa: B023
        assert isinstance(pairs, Refused)
    path = store(folder, f">{long}\n>P2\nAC\n")
    assert isinstance(attempt("stories", lambda: read_fasta(path), path), Refused)


def test_a_packed_prediction_file_of_no_bytes_is_cut_short(folder: Path) -> None:
    """It counted as an empty prediction: every metric of it was that of predicting nothing."""
    path = store(folder, b"", "empty.gz")
    refused = attempt("stories", lambda: read_predictions(path), path)
    assert isinstance(refused, Refused)
    assert "not a complete gzip file" in refused.sentence


@pytest.mark.parametrize(
    ("written", "score"), [("nan(ind)", None), ("-nan(ind)", None), ("1_0", ...), ("\u0663", ...)]
)
def test_numbers_are_the_same_for_both_parsers(folder: Path, written: str, score: Any) -> None:
    """`1_0` was 10 and an Arabic three was 3; `nan(ind)` was a header on line 1, else a NaN."""
    for other in ("A\tB\t0.5", "A B  0.5"):
        for lines in ([f"C\tD\t{written}", other], [other, f"C\tD\t{written}"]):
            path = store(folder, "\n".join(lines))
            read = attempt("stories", lambda: read_predictions(path), path)  # noqa: B023
            if score is None:
                assert not isinstance(read, Refused)
                assert read.notes == ("1 line has the score NaN and counts as not predicted",)
            elif lines[0] == other:
                assert isinstance(read, Refused)


def test_infinite_scores_are_scores(folder: Path) -> None:
    """They warned of invalid values; beside an infinite p_negative they were not predicted."""
    path = store(folder, "A B inf\nA C -inf\n")
    assert scores_by_pair(read_predictions(path)) == {("A", "B"): math.inf, ("A", "C"): -math.inf}
    path = store(folder, "A B 1 -inf inf\n")
    assert scores_by_pair(read_predictions(path)) == {("A", "B"): math.inf}


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(request, {"pairs": 350, "fasta": 350, "predictions": 350})
