"""Reads PRING's raw interactions, `ppi.txt`, with lines such as `P15112 PPI Q55GJ7 string`.

The file contains interactions of all species; the organism of a protein is in the header of the
protein's sequence (`OX=9606` in `idmapping.fasta`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.data.tables.ids import check_id
from common.data.tables.interactions.base import Pairs, Reader, ReadOptions, Rows
from common.data.tables.text_table import Head, Layout, Names, TextTable, split_line
from common.errors import UserError, excerpt

_RELATION = "PPI"


def _recognizes(head: Head) -> bool:
    fields = split_line(head.lines[0], None)
    return len(fields) == 4 and fields[1] == _RELATION


def _rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    if not options.organisms and options.taxid is not None:
        raise UserError(
            f"{table.path} contains no organisms, and neither do the headers of"
            " data_config.interactions.sequences (such as OX=9606); remove"
            " data_config.interactions.taxid, or use the idmapping.fasta that belongs to this file"
        )
    columns = {"a": 0, "relation": 1, "b": 2}
    for block in table.blocks(Layout(None, 4, columns)):
        block.convert("relation", _check_relation)
        first, second = block.names("a", check_id), block.names("b", check_id)
        yield Rows(first, second, organisms=_organisms(first, second, options))


def _organisms(first: Names, second: Names, options: ReadOptions) -> Pairs | None:
    if not options.organisms:
        return None
    sides = [
        np.array([options.organisms.get(name, 0) for name in side.values], np.int64)[side.codes]
        for side in (first, second)
    ]
    return np.stack(sides, axis=1)


def _check_relation(text: str) -> str:
    if text != _RELATION:
        raise ValueError(f"the second column is '{excerpt(text)}' instead of PPI")
    return text


READER = Reader(_recognizes, _rows)
