"""The one look of everything that people read on the console: tables, closing lines, other text.

Results go to stdout, everything else to stderr; nothing uses control characters. (Logged events
have a format of their own; see `common.run`.)
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tqdm import tqdm

from common.csv_log import Table

UNDEFINED = "-"
WIDTH = 110  # characters in a line


def show(text: str) -> None:
    """Write text to stderr without breaking a live progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        sys.stderr.write(f"{text}\n")


def align(rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def list_places(places: Mapping[str, object]) -> str:
    """List where files are, one line each; None stands for a file that does not exist."""
    found = {name: place for name, place in places.items() if place is not None}
    width = max(map(len, found), default=0)
    return "\n".join(f"{name:<{width}}  {place}" for name, place in found.items())


def entitle(table: Table, subject: str) -> Table:
    """Begin a table's caption with what was evaluated, so that the table can be read alone."""
    caption = "\n".join(part for part in (subject, table.caption) if part)
    return replace(table, caption=caption)


def format_table(table: Table) -> str:
    """Align rows under the caption and the header; undefined cells become a dash."""
    text = align(_cells(table))
    caption = "".join(f"{textwrap.fill(line, WIDTH)}\n" for line in table.caption.splitlines())
    return caption + text


def format_cell(value: object) -> str:
    """Format a value: floats with four decimals, undefined ones as a dash."""
    if value is None:
        return UNDEFINED
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def fold(table: Table, width: int = WIDTH) -> list[Table]:
    """Split the columns into tables that fit a line of this width; each has the first column."""
    first, *widths = (max(map(len, column)) for column in zip(*_cells(table), strict=True))
    groups: list[list[str]] = [[]]
    used = first
    for name, needed in zip(table.header[1:], widths, strict=True):
        if groups[-1] and used + 2 + needed > width:
            groups.append([])
            used = first
        groups[-1].append(name)
        used += 2 + needed
    headers = [(table.header[0], *group) for group in groups]
    captions = [table.caption, *([""] * (len(groups) - 1))]
    return [
        Table(header, [{name: row.get(name) for name in header} for row in table.rows], caption)
        for header, caption in zip(headers, captions, strict=True)
    ]


def _cells(table: Table) -> list[list[str]]:
    """Return the header and the formatted cells of every row."""
    rows = [[format_cell(row.get(name)) for name in table.header] for row in table.rows]
    return [list(table.header), *rows]
