"""Reads PSI-MITAB 2.5 to 2.8 files, as IntAct, HuRI, MINT and BioGRID provide them.

The columns have the order that HUPO-PSI defines (15 in 2.5, 36 in 2.6, 42 in 2.7, 46 in 2.8);
the header is optional. A protein is named by its UniProt accession, from the identifiers or the
alternative identifiers; isoforms (`P12345-2`) and chains (`P12345-PRO_0000012345`) are read as the
parent protein. For a protein without an accession, an identifier of another database is used if a
sequence has the same identifier. Interactions marked negative are pairs that do not interact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from common.data.tables.interactions.base import (
    Reader,
    ReadOptions,
    Rows,
    check_score,
)
from common.data.tables.interactions.biogrid import NOT_PHYSICAL
from common.data.tables.text_table import Block, Head, Layout, Names, TextTable
from common.errors import UserError, count_of, excerpt

_COLUMNS = {
    "id a": 0,
    "id b": 1,
    "alternative a": 2,
    "alternative b": 3,
    "taxid a": 9,
    "taxid b": 10,
    "type": 11,
    "confidence": 14,
}
_NEGATIVE = 35  # since MITAB 2.6
_WIDTH_25 = 15
_UNIPROT = ("uniprotkb", "uniprot/swiss-prot", "uniprot/trembl", "uniprot")
_PARENT = re.compile(
    r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d(?:[A-Z][A-Z0-9]{2}\d){1,2})(?:-\d+|-PRO_\d+)?", re.ASCII
)
_TAXID = re.compile(r'taxid:"?(-?\d{1,9})"?(?:\(|\||$)', re.ASCII)
_MISCORE = re.compile(r"(?:^|\|)intact-miscore:([^|]*)")
_TRUTHS = {"true": 0, "false": 1, "-": 1, "": 1}


def _recognizes(head: Head) -> bool:
    lines = [line.split("\t") for line in head.lines[:2]]
    return any(
        len(fields) >= _WIDTH_25
        and all(field == "-" or ":" in field for field in fields[:2])
        and all(field == "-" or field.startswith("taxid:") for field in fields[9:11])
        for fields in lines
    )


def _rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    width, header = _find_form(table)
    columns = _COLUMNS | ({"negative": _NEGATIVE} if width > _NEGATIVE else {})
    for block in table.blocks(Layout("\t", width, columns, header)):
        yield _read_block(block, columns, options)


def _find_form(table: TextTable) -> tuple[int, bool]:
    fields = table.head.lines[0].split("\t")
    if len(fields) < _WIDTH_25:
        raise UserError(
            f"{table.path}: the first line '{excerpt(fields[0])} …' has"
            f" {count_of(len(fields), 'column')}, but PSI-MITAB has 15 or more columns, separated"
            " by tabs; set data_config.interactions.format: auto"
        )
    return len(fields), "interactor" in fields[0].lower() or fields[0].lower() == "uida"


def _read_block(block: Block, columns: Mapping[str, int], options: ReadOptions) -> Rows:
    first, second = (_names(block, side, options) for side in "ab")
    organisms = [block.array(f"taxid {side}", _taxid, np.int64) for side in "ab"]
    return Rows(
        first,
        second,
        labels=block.array("negative", _label, np.int8) if "negative" in columns else None,
        scores=block.array("confidence", _miscore, np.float64),
        organisms=np.stack(organisms, axis=1),
        dropped={NOT_PHYSICAL: block.array("type", _is_genetic, np.bool_)},
    )


def _names(block: Block, side: str, options: ReadOptions) -> Names:
    def accession(text: str) -> str:
        found = _identifiers(text)
        for database, name in found:
            if database.lower() in _UNIPROT:
                parent = _PARENT.fullmatch(name)
                return parent.group(1) if parent else name
        return next((name for _, name in found if name in options.known), "")

    def identifier(text: str) -> str:
        if text.strip() not in ("", "-") and ":" not in text:
            raise ValueError(f"the identifier '{excerpt(text)}' is not of the form database:id")
        return accession(text)

    names = block.names(f"id {side}", identifier)
    return names.or_else(block.names(f"alternative {side}", accession))


def _identifiers(text: str) -> list[tuple[str, str]]:
    """Split `uniprotkb:P12346|ensembl:ENSP01` into pairs of a database and an id."""
    parts = (part.strip().partition(":") for part in text.split("|"))
    named = [
        (database.strip('"'), rest.partition("(")[0].strip('"')) for database, _, rest in parts
    ]
    return [(base, name) for base, name in named if name and name.isprintable() and " " not in name]


def _taxid(text: str) -> int:
    if text.strip() in ("", "-"):
        return 0
    found = _TAXID.match(text.strip())
    if not found:
        raise ValueError(f"the organism '{excerpt(text)}' is not of the form taxid:9606(human)")
    return int(found.group(1))


def _miscore(text: str) -> float:
    found = _MISCORE.search(text)
    return check_score(found.group(1)) if found else float("nan")


def _label(text: str) -> int:
    try:
        return _TRUTHS[text.strip().lower()]
    except KeyError:
        raise ValueError(
            f"column 36 (negative) is '{excerpt(text)}' instead of true or false"
        ) from None


def _is_genetic(text: str) -> bool:
    return "genetic" in text.lower()


READER = Reader(_recognizes, _rows)
