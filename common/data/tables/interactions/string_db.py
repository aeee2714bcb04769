"""Reads STRING's `protein.links[.detailed|.full]` of any version, and the website's TSV export.

The columns are found by name: `protein1 protein2 … combined_score` in the downloads (separated by
spaces, scores from 0 to 1000), and `#node1 … node1_string_id … combined_score` in the export
(separated by tabs, scores from 0 to 1). The downloads list every pair in both directions. Ids begin
with the organism (`9606.ENSP00000000233`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from common.data.tables.ids import check_id
from common.data.tables.interactions.base import (
    Pairs,
    Reader,
    ReadOptions,
    Rows,
    check_score,
)
from common.data.tables.text_table import Block, Head, Layout, TextTable, split_line
from common.errors import UserError, excerpt

_SIDES = (("protein1", "protein2"), ("node1_string_id", "node2_string_id"))
_SCORE = "combined_score"
_TAXON = re.compile(r"(\d+)\.", re.ASCII)


def _recognizes(head: Head) -> bool:
    return _find_layout(head) is not None


def _find_layout(head: Head) -> Layout | None:
    """Return the column layout by the header line, which the website exports as a comment."""
    for text, header in ((head.lines[0], True), (head.comment, False)):
        delimiter = next((mark for mark in "\t," if mark in text), None)
        names = [name.strip().lower() for name in split_line(text, delimiter)]
        for first, second in _SIDES:
            if {first, second, _SCORE} <= set(names):
                wanted = {"a": first, "b": second, "score": _SCORE}
                columns = {key: names.index(name) for key, name in wanted.items()}
                return Layout(delimiter, len(names), columns, header)
    return None


def _rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    layout = _find_layout(table.head)
    if layout is None:
        raise UserError(
            f"{table.path} begins with '{excerpt(table.head.lines[0])}' instead of the header of"
            " STRING (protein1 protein2 … combined_score); download the file again, or set"
            " data_config.interactions.format: auto"
        )
    for block in table.blocks(layout):
        first, second = block.names("a", check_id), block.names("b", check_id)
        scores = block.array("score", check_score, np.float64)
        yield Rows(first, second, scores=scores, organisms=_organisms(block))


def _organisms(block: Block) -> Pairs:
    return np.stack([block.array(side, _taxon, np.int64) for side in "ab"], axis=1)


def _taxon(name: str) -> int:
    found = _TAXON.match(name.strip())
    return int(found.group(1)) if found and len(found.group(1)) < 10 else 0


READER = Reader(_recognizes, _rows)
