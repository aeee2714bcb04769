"""Reads lists of protein ids with one id per line, such as the benchmark's essential proteins."""

from __future__ import annotations

from pathlib import Path

from common.data.tables.ids import shorten_uniprot
from common.data.tables.text import TextFile
from common.errors import UserError, excerpt


def read_protein_list(path: str | Path) -> list[str]:
    """Read a list of protein ids, one per line; blank lines are skipped.

    Raises:
        UserError: The file cannot be read or is empty, or a line contains more than one id.
    """
    path, ids = Path(path), list[str]()
    for number, line in TextFile(path).lines():
        words = line.split()
        if len(words) > 1:
            raise UserError(
                f"{path}, line {number}: expected one protein id, found"
                f" '{excerpt(line.strip())}'; correct or remove the line"
            )
        ids += map(shorten_uniprot, words)
    if not ids:
        raise UserError(f"{path} contains no protein ids; download the file again")
    return ids
