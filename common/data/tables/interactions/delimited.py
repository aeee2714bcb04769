"""Reads interaction files with two or three columns: two protein ids and a label or a score.

Columns are separated by tabs, commas, semicolons or spaces; a header is optional, and values may be
quoted. Labels are `0/1`, `0.0/1.0`, `-/+` or `false/true`; without labels, all pairs interact. A
third column is a score if the header names it as a score, or if `min_score` is set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from common.data.tables.ids import check_id
from common.data.tables.interactions.base import (
    Reader,
    ReadOptions,
    Rows,
    check_score,
)
from common.data.tables.text_table import Head, Layout, TextTable, split_line
from common.errors import UserError, count_of, excerpt

_LABELS = {"+": 1, "-": 0, "true": 1, "false": 0}
_NUMERIC_LABEL = re.compile(r"([01])(?:\.0*)?", re.ASCII)
_SIDE = r"(?:%s)(?:[ _.-]?(?:id|name|accession))?[ _.-]?%s(?:[ _.-]?(?:id|name|accession))?"
_WORDS = r"protein|prot|interactor|uniprot|uniprotkb|gene|node|id|ensembl|seq"
_NAMES = {
    "a": re.compile(rf"{_SIDE % (_WORDS, '(?:a|1)')}|from|source|query|bait"),
    "b": re.compile(rf"{_SIDE % (_WORDS, '(?:b|2)')}|to|target|prey"),
    "label": re.compile(r"labels?|class|interacts?|interaction|y|is_?interacting|truth"),
    "score": re.compile(r"(?:combined_?)?scores?|confidence|weight|probability"),
}


def _recognizes(head: Head) -> bool:
    return len(_split_first(head)[0]) in (2, 3)


def _split_first(head: Head) -> tuple[list[str], str | None, bool]:
    """Return the values of the first line, the delimiter, and whether values are quoted."""
    quoted = any('"' in text for text in head.lines[:10])
    delimiter = _find_delimiter(head, quoted)
    fields = split_line(head.lines[0], delimiter, quoted)
    return [field.strip() for field in fields], delimiter, quoted


def _find_delimiter(head: Head, quoted: bool) -> str | None:
    """Find the delimiter that splits all of the first lines into two, or all into three columns."""
    marks = [*(mark for mark in "\t,;" if mark in head.lines[0]), None]
    for mark in marks:
        widths = {len(split_line(line, mark, quoted)) for line in head.lines[:100]}
        if widths in ({2}, {3}):
            return mark
    return next((m for m in marks if len(split_line(head.lines[0], m, quoted)) in (2, 3)), marks[0])


def read_rows(
    table: TextTable, options: ReadOptions, check: Callable[[str], str] = check_id
) -> Iterator[Rows]:
    """Yield the rows of an interaction file with two or three columns.

    Args:
        table: The file.
        options: Which interactions are read.
        check: Checks a value and returns the protein id.

    Raises:
        UserError: The file has another number of columns, or a value cannot be read.
    """
    fields, delimiter, quoted = _split_first(table.head)
    if len(fields) not in (2, 3):
        raise UserError(
            f"{table.path}: the first line '{excerpt(table.head.lines[0])}' has"
            f" {count_of(len(fields), 'column')} instead of two (protein, protein) or three"
            " (protein, protein, label); keep only these columns, or set"
            " data_config.interactions.format to the format of the file"
        )
    columns, header = _find_columns(fields, options)
    for block in table.blocks(Layout(delimiter, len(fields), columns, header, quoted)):
        first, second = block.names("a", check), block.names("b", check)
        labels = block.array("label", read_label, np.int8) if "label" in columns else None
        scores = block.array("score", check_score, np.float64) if "score" in columns else None
        yield Rows(first, second, labels, scores)


def _find_columns(fields: list[str], options: ReadOptions) -> tuple[dict[str, int], bool]:
    """Return the indices of the columns by content, and whether the first line is a header."""
    named: dict[str, int] = {}
    for place, text in enumerate(fields):
        for key, pattern in _NAMES.items():
            if pattern.fullmatch(text.lower()):
                named.setdefault(key, place)
    header = bool(named) and not any(map(_is_value, fields[2:]))
    kind = "label" if options.min_score is None else "score"
    if header and {"a", "b"} <= named.keys():
        rest = [place for place in range(len(fields)) if place not in named.values()]
        return named | ({kind: rest[0]} if rest else {}), True
    if len(fields) == 2:
        return {"a": 0, "b": 1}, False
    return {"a": 0, "b": 1, "score" if header and "score" in named else kind: 2}, header


def _is_value(text: str) -> bool:
    """Return whether the third value of a line looks like a label or a score, even if misspelt."""
    return not text or text.lower() in _LABELS or bool(re.match(r"[+-]?[.,]?\d", text))


def read_label(text: str) -> int:
    """Convert the text of a label to 0 or 1.

    Raises:
        ValueError: The text is not a label.
    """
    word = text.strip().lower()
    number = _NUMERIC_LABEL.fullmatch(word)
    if number:
        return int(number.group(1))
    if word not in _LABELS:
        raise ValueError(
            f"the label '{excerpt(text)}' is not 0 or 1, - or +, false or true (if the column"
            " contains scores, name it 'score' in a header)"
        )
    return _LABELS[word]


READER = Reader(_recognizes, read_rows)
