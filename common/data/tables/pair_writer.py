"""Writes files of protein pairs, which `read_pair_file` reads."""

from __future__ import annotations

import contextlib
import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from common.files import write_atomically

COMPRESSION = 4  # gzip level: within 5 % of the size at level 6, in less than half the time


def write_pair_file(
    path: Path,
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    columns: Mapping[str, NDArray[Any]],
    header: bool = False,
) -> None:
    """Write a file of protein pairs: tab-separated lines of two ids and the given columns.

    Floats are written with the fewest digits from which the same number of the same type can be
    read back. The same input gives the same bytes, whatever the name of the file.

    Args:
        path: The file; gzip if the name ends in .gz. An existing file is replaced in one step.
        ids: Protein ids.
        pairs: (P, 2) indices into `ids`.
        columns: The (P,) values of the further columns, by name.
        header: Whether to write the names of the columns in the first line.

    Raises:
        UserError: The file cannot be written.
    """
    content = io.BytesIO()
    with contextlib.ExitStack() as opened:
        file: IO[bytes] = content
        if path.suffix == ".gz":
            packed = opened.enter_context(gzip.GzipFile("", "wb", COMPRESSION, content, mtime=0))
            file = cast(IO[bytes], packed)
        if header:
            file.write("\t".join(("protein_a", "protein_b", *columns)).encode() + b"\n")
        write_lines(file, ids, pairs, columns)
    write_atomically(path, content.getvalue())


def write_lines(
    file: IO[bytes],
    ids: Sequence[str],
    pairs: NDArray[np.integer[Any]],
    columns: Mapping[str, NDArray[Any]],
    delimiter: str = "\t",
) -> None:
    """Write one line per pair (P, 2) of `ids` with the (P,) further columns, without quotes."""
    names = pa.array(ids, type=pa.string())
    sides = [names.take(pa.array(side)) for side in pairs.reshape(-1, 2).T]
    values = map(pa.array, columns.values())
    table = pa.table([*sides, *values], names=["protein_a", "protein_b", *columns])
    used = pa.chunked_array([*table[0].chunks, *table[1].chunks], pa.string()).unique()
    if any(mark in name for name in used.to_pylist() for mark in ('"', delimiter)):
        # Arrow would quote or refuse ids that contain a quote or the delimiter.
        for row in zip(*(column.to_numpy() for column in table.columns), strict=True):
            file.write(delimiter.join(map(str, row)).encode() + b"\n")
        return
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    csv.write_csv(table, file, options)
