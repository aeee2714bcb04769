"""Bad text files: pairs, FASTA and predictions are read as a slow oracle reads them, or refused.

Cases tried (`test_so_many_cases_are_tried`): COUNTS.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.fasta import read_fasta, read_sequences
from common.data.pring import PairTable, read_pairs
from common.evaluation.predictions import Predictions, read_predictions
from tests.bad_input import (
    Packing,
    Refused,
    assert_tried,
    attempt,
    cases,
    check,
    lines_of,
    packings,
    text_of,
)

IDS = ["P1", "P2", "Q9-2", "A0A024R1R8", "β2", "sp|P1|X", "0", "1", '"P1', "P1,P2", "#P", "nan"]
INVISIBLE = ["\ufeffP1", "P\0", "P\u200b1", "P1\x1b[31m", "\u202eP1"]
HUGE = "P" * 70_000

# Mostly right, so that files with one wrong line among right ones are common.
ids = st.sampled_from(IDS * 4 + INVISIBLE + [HUGE])
separators = st.sampled_from(["\t"] * 9 + [" ", "  ", "\t ", "\t\t", ",", "\u3000", "\x1f", "\xa0"])
line_ends = st.sampled_from(["\n"] * 6 + ["\r\n", "\r\n", "\r", "\n\n", " \n", "\x0b", "\x85"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


def lines_with(*columns: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Lines with these columns, ended or not; now and then one is missing or one too many."""
    whole = st.tuples(*columns).map(list)
    odd = st.lists(st.one_of(*columns), max_size=6)
    fields = st.integers(0, 9).flatmap(lambda number: whole if number else odd)
    lines = st.tuples(fields, separators).map(lambda line: line[1].join(line[0]))
    return st.tuples(lines, line_ends).map("".join)


def files_of(*lines: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts of a few lines of one of these kinds, the end of the last one cut off or not."""
    starts = st.sampled_from(["", "", "", "\ufeff", "\n", "a\tb\tlabel\n", "a b label neg pos\n"])
    bodies = st.one_of(*(st.lists(line, max_size=8) for line in lines)).map("".join)
    return st.tuples(starts, bodies, st.booleans()).map(
        lambda parts: parts[0] + (parts[1] if parts[2] else parts[1].rstrip("\r\n"))
    )


# Pair files

labels = st.sampled_from(["0", "1"] * 12 + ["2", "1.0", "", "x", "01", "-1", "True", "１", "0" * 999])


def triples(table: PairTable) -> list[tuple[str, str, int]]:
    names = np.array(table.proteins, object)[table.pairs]
    return [(a, b, int(label)) for (a, b), label in zip(names, table.labels, strict=True)]


def expected_pairs(text: str) -> tuple[list[tuple[str, str, int]], set[int]]:
    """The rows of a pair file, and the numbers of its wrong lines."""
    rows, wrong = [], set()
    for number, line in lines_of(text):
        fields = re.findall(r"\S+", line)
        if len(fields) == 3 and fields[2] in {"0", "1"} and "".join(fields).isprintable():
            rows.append((fields[0], fields[1], int(fields[2])))
        elif fields:
            wrong.add(number)
    return rows, wrong


@cases(350)
@given(files_of(lines_with(ids, ids, labels)), packings())
def test_pair_files(folder: Path, text: str, packing: Packing) -> None:
    path, cache = packing.store(folder, text), folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    read = attempt("pairs", lambda: triples(read_pairs(path, cache)), path)
    known = text_of(path) or ""
    rows, wrong = expected_pairs(known.lstrip("\ufeff"))
    if rows or wrong:
        check(read, rows, wrong, path)
    else:
        assert isinstance(read, Refused)
    assert not isinstance(read, Refused) or not cache.exists()


# FASTA

HEADERS = [
    ">P1", ">P2 a name", "> P3", ">sp|P12345|AATM_RABIT Aspartate", ">tr|Q1|X", ">sp||X", ">sp|P9",
    ">gi|5|z", ">β2", ">P1\tx", ">" + HUGE,
]  # fmt: skip
WRONG_HEADERS = [">", "> ", ">\ufeffP1", ">P\0", ">P\u200b1 x", "\ufeff>P1"]
RESIDUES = ["ACDE", "mkwv", "MUXBZ", "A", " ACD", "ACD ", "ACD\x0b", "ACD*", "*", "", "A" * 200_000]
WRONG_RESIDUES = ["AC-E", "AC.E", "AC E", "A*C", "AC**", "AC4", "ACß", "ﬀ", "; note", "AC\0", "1\t2"]

fasta_lines = st.tuples(
    st.sampled_from(HEADERS * 6 + RESIDUES * 6 + WRONG_HEADERS + WRONG_RESIDUES),
    st.sampled_from(["\n"] * 6 + ["\r\n", "\r", "\n\n"]),
).map("".join)
fasta_records = st.tuples(
    st.sampled_from(HEADERS), st.lists(st.sampled_from(RESIDUES[:8]), min_size=1, max_size=3)
).map(lambda record: "\n".join([record[0], *record[1], ""]))


def header_id(line: str) -> str | None:
    """The id of a header, None where it has none."""
    words = line[1:].split()
    if not words or not words[0].isprintable():
        return None
    parts = words[0].split("|")
    is_uniprot = len(parts) > 2 and parts[0] in {"sp", "tr"} and parts[1]
    return parts[1] if is_uniprot else words[0]


def expected_sequences(text: str) -> tuple[dict[str, str], set[int]]:
    """The sequences of a FASTA text, and the numbers of lines that one may blame."""
    records: list[tuple[int, str, list[tuple[int, str]]]] = []
    wrong = set()
    for number, line in [(number, line.strip()) for number, line in lines_of(text)]:
        if line.startswith(">"):
            name = header_id(line)
            records.append((number, name or "", []))
            wrong |= set() if name else {number}
        elif line and records:
            records[-1][2].append((number, line))
        elif line:
            wrong.add(number)
    sequences: dict[str, str] = {}
    for number, name, lines in records:
        sequence = "".join(line for _, line in lines).removesuffix("*")
        if not sequence:
            wrong.add(number)
        elif not re.fullmatch("[A-Za-z]+", sequence):
            wrong |= {at for at, line in lines if not re.fullmatch("[A-Za-z]+", line)}
            # A stop is only wrong once the sequence goes on.
            wrong |= {at for (_, line), (at, _) in zip(lines, lines[1:]) if line.endswith("*")}
        if sequences.setdefault(name, sequence.upper()) != sequence.upper():
            wrong.add(number)
    return sequences, wrong


@cases(350)
@given(files_of(fasta_lines, fasta_records), packings())
def test_fasta_files(folder: Path, text: str, packing: Packing) -> None:
    path = packing.store(folder, text)
    read = attempt("fasta", lambda: read_fasta(path), path)
    known = text_of(path) or ""
    sequences, wrong = expected_sequences(known.lstrip("\ufeff"))
    if sequences or wrong:
        check(read, sequences, wrong, path)
    else:
        assert isinstance(read, Refused)


# Prediction files

NUMBERS = ["0", "1", "0.5", "0.25", ".5", "1.", "+1", "-2", "1e-3", "2E2", "nan", "-inf", "1e999"]
NO_NUMBERS = ["x", "0,5", "1e", "0x1", "1_0", "٣", '"1"', "--1", "", "1" * 5 + "x" * 9999]
scores = st.sampled_from(NUMBERS * 5 + NO_NUMBERS)
any_label = st.sampled_from(["0", "1", "x", "?"])
prediction_files = files_of(lines_with(ids, ids, scores), lines_with(ids, ids, any_label, scores, scores))


def is_number(text: str) -> bool:
    """Whether a program of any language would take it for a number."""
    return bool(re.fullmatch(r"[+-]?(nan|inf|([0-9]+\.?|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?)", text))


def call(negative: float, positive: float) -> float:
    """The score of two probabilities: on that side of 0.5 which the larger one says."""
    if math.isnan(negative) or math.isnan(positive):
        return math.nan
    if positive > negative:
        return max(positive, 0.5)
    return min(positive, math.nextafter(0.5, 0))


def expected_scores(text: str) -> tuple[dict[tuple[str, str], float], set[int]]:
    """The highest score of every pair of a prediction file, and its wrong lines' numbers."""
    lines = [(number, line.split()) for number, line in lines_of(text) if line.split()]
    if not lines:
        return {}, set()
    number, first = lines[0]
    if len(first) not in {3, 5}:
        return {}, {number}
    found: dict[tuple[str, str], float] = {}
    wrong = set()
    for number, fields in lines[0 if any(map(is_number, first[2:])) else 1 :]:
        numbers = fields[2:] if len(first) == 3 else fields[3:]
        names = sorted(fields[:2])
        right = len(fields) == len(first) and "".join(names).isprintable()
        if not right or not all(map(is_number, numbers)):
            wrong.add(number)
            continue
        score = float(numbers[0]) if len(first) == 3 else call(*map(float, numbers))
        if not math.isnan(score):
            pair = (names[0], names[1])
            found[pair] = max(score, found.get(pair, -math.inf))
    return found, wrong


def scores_by_pair(predictions: Predictions) -> dict[tuple[str, str], float]:
    names = [(predictions.ids[a], predictions.ids[b]) for a, b in predictions.pairs]
    return dict(zip(names, predictions.scores.tolist(), strict=True))


@cases(350)
@given(prediction_files, packings())
def test_prediction_files(folder: Path, text: str, packing: Packing) -> None:
    path = packing.store(folder, text)
    read = attempt("predictions", lambda: scores_by_pair(read_predictions(path)), path)
    known = text_of(path)
    if known is None:
        assert isinstance(read, Refused)
    else:
        check(read, *expected_scores(known), path)
