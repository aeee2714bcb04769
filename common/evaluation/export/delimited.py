"""Tables of pairs: tab-separated (also packed by gzip), and comma-separated.

Tab-separated tables quote nothing, because the programs that read them remove no quotes; an id has
neither tabs nor line ends. Comma-separated ones follow RFC 4180.
"""

from __future__ import annotations

import gzip
from functools import partial
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from common.data.tables.pair_file import COMPRESSION, write_lines
from common.evaluation.export.base import COLUMNS, Format, Output, Proteins, Rows


class TableWriter:
    """Writes `protein_a protein_b probability call`."""

    def __init__(self, output: Output, proteins: Proteins, delimiter: str) -> None:
        quote = delimiter == ","
        self.ids = [_quote(name) if quote else name for name in proteins.ids]
        self.delimiter = delimiter
        self._raw = output.create()
        self._file = self._raw
        if output.path.suffix.lower() == ".gz":
            # The header gets no name and no time, so that the same pairs give the same bytes.
            packed = gzip.GzipFile("", "wb", COMPRESSION, self._raw, mtime=0)
            self._file = cast(IO[bytes], packed)
        self._file.write(delimiter.join(COLUMNS).encode() + b"\n")

    def write(self, rows: Rows) -> None:
        """Add pairs."""
        pairs = np.stack([rows.first, rows.second], axis=1)
        columns: dict[str, NDArray[np.generic]] = dict(
            zip(COLUMNS[2:], (rows.probabilities, rows.calls), strict=True)
        )
        write_lines(self._file, self.ids, pairs, columns, self.delimiter)

    def close(self) -> None:
        """Complete the file."""
        self._file.close()
        self._raw.close()


def _quote(name: str) -> str:
    if not any(mark in name for mark in ',"'):
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


TSV = Format(partial(TableWriter, delimiter="\t"), "any spreadsheet, pandas, R or networkx")
CSV = Format(partial(TableWriter, delimiter=","), "any spreadsheet, pandas or R")
