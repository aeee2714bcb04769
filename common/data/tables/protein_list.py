"""Lists of protein ids, such as the benchmark's of essential proteins: one id per line."""

from __future__ import annotations

import io
from pathlib import Path

from common.data.tables.fasta import read_text
from common.errors import UserError


def read_protein_list(path: str | Path) -> list[str]:
    """Reads one protein id per line, blank lines left out.

    Raises:
        UserError: The file cannot be read, is empty, or a line holds more than an id.
    """
    path = Path(path)
    lines = io.StringIO(read_text(path), newline=None).read().split("\n")
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1:
            raise UserError(f"{path}, line {number}: expected one protein id, found '{line[:60]}'")
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise UserError(f"{path} holds no protein id: fetch it again")
    return ids
