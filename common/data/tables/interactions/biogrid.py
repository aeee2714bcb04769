"""Reads physical interactions from BioGRID TAB 3.0 (and TAB 2.0), finding the columns by name.

Proteins are named by Swiss-Prot accessions, systematic names or official symbols, whichever match
the most sequences; a protein without a Swiss-Prot accession is named by its TrEMBL accession. `-`
is a missing value. Definition of the columns: wiki.thebiogrid.org, "BioGRID TAB 3.0".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from common.data.tables.interactions.base import Reader, ReadOptions, Rows
from common.data.tables.text_table import Block, Head, Layout, Names, TextTable
from common.errors import UserError, excerpt

NOT_PHYSICAL = "dropped: not physical evidence"

_SYSTEM_TYPE = "experimental system type"
# The column names without the final `a` or `b`; the first name that the file contains is used.
_ORGANISMS = ("organism id interactor", "organism interactor")
_NAMINGS = {
    "swiss-prot": "swiss-prot accessions interactor",
    "systematic": "systematic name interactor",
    "symbol": "official symbol interactor",
}
_TREMBL = "trembl accessions interactor"


def _header(head: Head) -> tuple[list[str], bool]:
    """Return the column names in lower case, and whether the first line contains these names."""
    for text, is_line in ((head.comment, False), (head.lines[0], True)):
        names = [name.strip().lower() for name in text.split("\t")]
        if _SYSTEM_TYPE in names and f"{_NAMINGS['systematic']} a" in names:
            return names, is_line
    return [], False


def _recognizes(head: Head) -> bool:
    return bool(_header(head)[0])


def _rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    names, is_line = _header(table.head)
    organism = next((name for name in _ORGANISMS if f"{name} a" in names), None)
    if organism is None:
        raise UserError(
            f"{table.path} begins with '{excerpt(table.head.lines[0])}' instead of the header of"
            " BioGRID TAB 3.0 (#BioGRID Interaction ID, tab, …); download the file again, or set"
            " data_config.interactions.format: auto"
        )
    naming = _choose_naming(table, names, options)
    sides = {"name": naming, "organism": organism}
    if naming == _NAMINGS["swiss-prot"] and f"{_TREMBL} a" in names:
        sides["other"] = _TREMBL
    wanted = {f"{key} {side}": f"{name} {side}" for key, name in sides.items() for side in "ab"}
    wanted |= {"type": _SYSTEM_TYPE} | ({"score": "score"} if "score" in names else {})
    missing = [name for name in wanted.values() if name not in names]
    if missing:
        raise UserError(
            f"{table.path}, line 1: the column '{missing[0]}' is missing; download the file again"
        )
    columns = {key: names.index(name) for key, name in wanted.items()}
    for block in table.blocks(Layout("\t", len(names), columns, is_line)):
        yield _read_block(block, columns, options)


def _read_block(block: Block, columns: Mapping[str, int], options: ReadOptions) -> Rows:
    first, second = (_names(block, side, columns, options) for side in "ab")
    organisms = [block.array(f"organism {side}", _taxid, np.int64) for side in "ab"]
    return Rows(
        first,
        second,
        scores=block.array("score", _score, np.float64) if "score" in columns else None,
        organisms=np.stack(organisms, axis=1),
        dropped={NOT_PHYSICAL: ~block.array("type", _is_physical, np.bool_)},
    )


def _names(block: Block, side: str, columns: Mapping[str, int], options: ReadOptions) -> Names:
    def pick(text: str) -> str:
        accessions = [part.strip() for part in text.split("|")]
        if any(" " in part or not part.isprintable() for part in accessions):
            raise ValueError(f"the id '{excerpt(text)}' contains spaces")
        found = next((part for part in accessions if part in options.known), accessions[0])
        return "" if found == "-" else found

    names = block.names(f"name {side}", pick)
    other = f"other {side}"
    return names.or_else(block.names(other, pick)) if other in columns else names


def _choose_naming(table: TextTable, names: list[str], options: ReadOptions) -> str:
    """Choose the id columns that match the most sequences in the first lines of the file."""
    lines = [line.split("\t") for line in table.head.lines]
    there = [naming for naming in _NAMINGS.values() if f"{naming} a" in names]

    def hits(naming: str) -> int:
        place = names.index(f"{naming} a")
        values = {fields[place] for fields in lines if len(fields) > place}
        return sum(part in options.known for value in values for part in value.split("|"))

    return max(there, key=hits)


def _taxid(text: str) -> int:
    text = text.strip()
    if text in ("", "-"):
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"the organism '{excerpt(text)}' is not a taxonomy id such as 9606")
    return int(text)


def _is_physical(text: str) -> bool:
    kind = text.strip().lower()
    if kind not in ("physical", "genetic"):
        raise ValueError(
            f"the experimental system type '{excerpt(text)}' is neither physical nor genetic"
        )
    return kind == "physical"


def _score(text: str) -> float:
    """Convert the score that a publication reports to a number; NaN if the text is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


READER = Reader(_recognizes, _rows)
