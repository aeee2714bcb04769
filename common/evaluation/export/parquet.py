"""Write tables of pairs as Parquet, a compressed, typed format for data analysis programs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from common.evaluation.export.base import COLUMNS, Format, Output, Proteins, Rows

SCHEMA = pa.schema(
    list(zip(COLUMNS, (pa.string(), pa.string(), pa.float64(), pa.int8()), strict=True))
)
# Rows per group: readers load a group at a time, and a group's column of ids is far below 2 GiB.
GROUP = 1 << 20


class ParquetWriter:
    """Collects pairs, and writes them to a Parquet file in row groups."""

    def __init__(self, output: Output, proteins: Proteins) -> None:
        self._ids = pa.array(proteins.ids, pa.string())
        self._raw = output.create()
        self._file = pq.ParquetWriter(self._raw, SCHEMA, compression="zstd")
        self._waiting: list[pa.Table] = []

    def write(self, rows: Rows) -> None:
        """Collect the next pairs, and write all complete row groups."""
        for start in range(0, len(rows.calls), GROUP):
            part = rows.select(slice(start, start + GROUP))
            names = [self._ids.take(pa.array(side)) for side in part[:2]]
            values = [pa.array(column) for column in part[2:]]
            self._waiting.append(pa.table([*names, *values], schema=SCHEMA))
        self._flush(GROUP)

    def close(self) -> None:
        """Write the last row group and the index of all groups, and close the file."""
        self._flush(1)
        self._file.close()
        self._raw.close()

    def _flush(self, least: int) -> None:
        """Write the collected pairs in row groups, if there are at least `least` pairs.

        An incomplete group is only written if `least` is below the size of a group.
        """
        waiting = sum(len(table) for table in self._waiting)
        if waiting < least:
            return
        table = pa.concat_tables(self._waiting)
        whole = len(table) if least < GROUP else len(table) // GROUP * GROUP
        self._file.write_table(table.slice(0, whole), row_group_size=GROUP)
        self._waiting = [table.slice(whole)]


PARQUET = Format(ParquetWriter, "pandas.read_parquet, polars, DuckDB or R's arrow")
