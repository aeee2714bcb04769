"""How UniProt writes the names of proteins, in FASTA headers and wherever they are copied to."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?:sp|tr)\|([^|]+)\|")


def shorten_uniprot(name: str) -> str:
    """The accession of a UniProt name (`sp|P12345|NAME`); any other name as it is."""
    uniprot = _NAME.match(name)
    return uniprot.group(1) if uniprot else name
