"""Reads HuRI's tables (`HuRI.tsv`, `HI-union.tsv`): two columns of Ensembl genes, without a header.

Sequences belong to proteins, not to genes: `data_config.interactions.id_map` translates the genes,
unless the FASTA file uses gene ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from common.data.tables.interactions.base import Reader, ReadOptions, Rows
from common.data.tables.interactions.delimited import read_rows
from common.data.tables.text_table import Head, TextTable
from common.errors import excerpt

_GENE = re.compile(r"ENSG\d{11}(?:\.\d+)?", re.ASCII)


def _recognizes(head: Head) -> bool:
    fields = head.lines[0].split("\t")
    return len(fields) == 2 and all(_GENE.fullmatch(field.strip()) for field in fields)


def _rows(table: TextTable, options: ReadOptions) -> Iterator[Rows]:
    return read_rows(table, options, _check_gene)


def _check_gene(text: str) -> str:
    if not _GENE.fullmatch(text.strip()):
        raise ValueError(
            f"'{excerpt(text)}' is not an Ensembl gene such as ENSG00000000005 (set"
            " data_config.interactions.format: delimited for other ids)"
        )
    return text.strip()


READER = Reader(_recognizes, _rows)
