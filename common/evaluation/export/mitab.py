"""Write networks as PSI-MITAB 2.7, the tab-separated exchange format of interaction databases.

The 42 columns are defined by HUPO-PSI (https://github.com/HUPO-PSI/miTab, PSI-MITAB27Format.md).
The writer fills in the interactors' ids, the detection method `MI:0063` (interaction prediction),
the type `MI:1110` (predicted interaction), the confidence `relic-probability`, and the type of both
interactors `MI:0326` (protein). As the format recommends, organisms are "unknown" (-3) and roles
"unspecified" (`MI:0499`). The host is "in silico" (-5). All other columns are `-`.
"""

from __future__ import annotations

import re

from common.evaluation.export.base import Format, Output, Proteins, Rows

COLUMNS = (
    "ID(s) interactor A", "ID(s) interactor B", "Alt. ID(s) interactor A",
    "Alt. ID(s) interactor B", "Alias(es) interactor A", "Alias(es) interactor B",
    "Interaction detection method(s)", "Publication 1st author(s)", "Publication Identifier(s)",
    "Taxid interactor A", "Taxid interactor B", "Interaction type(s)", "Source database(s)",
    "Interaction identifier(s)", "Confidence value(s)", "Expansion method(s)",
    "Biological role(s) interactor A", "Biological role(s) interactor B",
    "Experimental role(s) interactor A", "Experimental role(s) interactor B",
    "Type(s) interactor A", "Type(s) interactor B", "Xref(s) interactor A",
    "Xref(s) interactor B", "Interaction Xref(s)", "Annotation(s) interactor A",
    "Annotation(s) interactor B", "Interaction annotation(s)", "Host organism(s)",
    "Interaction parameter(s)", "Creation date", "Update date", "Checksum(s) interactor A",
    "Checksum(s) interactor B", "Interaction Checksum(s)", "Negative", "Feature(s) interactor A",
    "Feature(s) interactor B", "Stoichiometry(s) interactor A", "Stoichiometry(s) interactor B",
    "Identification method participant A", "Identification method participant B",
)  # fmt: skip
_METHOD = 'psi-mi:"MI:0063"(interaction prediction)'
_TYPE = 'psi-mi:"MI:1110"(predicted interaction)'
_PROTEIN = 'psi-mi:"MI:0326"(protein)'
_NO_ROLE = 'psi-mi:"MI:0499"(unspecified role)'
_ORGANISM, _HOST = "taxid:-3(unknown)", "taxid:-5(in silico)"
# Values that are the same in all lines, by the column's index from 0.
_CONSTANT = {
    6: _METHOD, 9: _ORGANISM, 10: _ORGANISM, 11: _TYPE,
    16: _NO_ROLE, 17: _NO_ROLE, 18: _NO_ROLE, 19: _NO_ROLE, 20: _PROTEIN, 21: _PROTEIN,
    28: _HOST, 35: "false",
}  # fmt: skip
# https://www.uniprot.org/help/accession_numbers, with an optional isoform number.
_ACCESSION = re.compile(
    r"([OPQ]\d[A-Z0-9]{3}\d|[A-NR-Z]\d([A-Z][A-Z0-9]{2}\d){1,2})(-\d+)?", re.ASCII
)
_RESERVED = re.compile(r'[|():"\t]')  # ids with these characters must be quoted


class MitabWriter:
    """Writes a PSI-MITAB file with a line for each predicted interaction."""

    def __init__(self, output: Output, proteins: Proteins) -> None:
        self._ids = [identify(name) for name in proteins.ids]
        self._cells = [_CONSTANT.get(column, "-") for column in range(len(COLUMNS))]
        self._file = output.create()
        self._file.write(("#" + "\t".join(COLUMNS) + "\n").encode())

    def write(self, rows: Rows) -> None:
        """Write the next interactions, a line each."""
        for a, b, probability, _ in zip(*(column.tolist() for column in rows), strict=True):
            cells = self._cells.copy()
            cells[0], cells[1] = self._ids[a], self._ids[b]
            cells[14] = f"relic-probability:{probability!r}"
            self._file.write(("\t".join(cells) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def identify(name: str) -> str:
    """Prefix a protein id with its database: `uniprotkb` for an accession, otherwise `unknown`."""
    if _ACCESSION.fullmatch(name):
        return f"uniprotkb:{name}"
    if not _RESERVED.search(name):
        return f"unknown:{name}"
    quoted = name.replace('"', '\\"')
    return f'unknown:"{quoted}"'


MITAB = Format(MitabWriter, "Cytoscape and the tools of the PSI-MI community", only_called=True)
