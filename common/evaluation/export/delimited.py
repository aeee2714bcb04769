"""Write tables of pairs: tab-separated (also compressed with gzip) or comma-separated.

Tab-separated tables contain no quotes, because many programs do not remove quotes; ids contain
neither tabs nor line breaks. Comma-separated tables follow RFC 4180.
"""

from __future__ import annotations

import gzip
from functools import partial
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from common.data.tables.pair_writer import COMPRESSION, write_lines
from common.evaluation.export.base import COLUMNS, Format, Output, Proteins, Rows


class TableWriter:
    """Writes a table with the columns `protein_a protein_b probability call`."""

    def __init__(self, output: Output, proteins: Proteins, delimiter: str) -> None:
        quote = delimiter == ","
        self.ids = [_quote(name) if quote else name for name in proteins.ids]
        self.delimiter = delimiter
        self._raw = output.create()
        self._file = self._raw
        if output.path.suffix.lower() == ".gz":
            # The gzip header gets no name and no time, so that equal pairs give identical files.
            packed = gzip.GzipFile("", "wb", COMPRESSION, self._raw, mtime=0)
            self._file = cast(IO[bytes], packed)
        self._file.write(delimiter.join(COLUMNS).encode() + b"\n")

    def write(self, rows: Rows) -> None:
        """Write the next pairs, a line each."""
        pairs = np.stack([rows.first, rows.second], axis=1)
        columns: dict[str, NDArray[np.generic]] = dict(
            zip(COLUMNS[2:], (rows.probabilities, rows.calls), strict=True)
        )
        write_lines(self._file, self.ids, pairs, columns, self.delimiter)

    def close(self) -> None:
        """Complete and close the table."""
        self._file.close()
        self._raw.close()


def _quote(name: str) -> str:
    if not any(mark in name for mark in ',"'):
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


TSV = Format(partial(TableWriter, delimiter="\t"), "any spreadsheet, pandas, R or networkx")
CSV = Format(partial(TableWriter, delimiter=","), "any spreadsheet, pandas or R")
