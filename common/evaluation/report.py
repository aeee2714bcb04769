"""Figures as a table for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

UNDEFINED = "-"


def format_table(header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Align rows under a header; floats with four decimals, what is undefined as a dash."""
    cells = [list(header), *([_format_cell(row.get(name)) for name in header] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    return "\n".join(_align(line, widths) for line in cells)


def _format_cell(value: object) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _align(line: Sequence[str], widths: Sequence[int]) -> str:
    first = line[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([first, *rest]).rstrip()
