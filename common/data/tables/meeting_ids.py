"""Matches protein ids of interaction files to differently written ids of sequence files.

A protein that a FASTA file calls `4932.YAL001C`, `ENSP00000369497.3`, `gi|4504349|ref|NP_000509.1|`
or `sp|P12345|AATM_RABIT` may be called `YAL001C`, `9606.ENSP00000369497`, `NP_000509.1` or `P12345`
in an interaction file. An id that is written identically in both files is always preferred.
Otherwise the organism number at the beginning and the version at the end are removed from the id
that has them. Ids with different versions match only in databases that are known to have versions:
in other databases, a number after a dot may be part of the name (`SPAC1002.01`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from common.data.tables.ids import shorten_uniprot
from common.data.tables.interactions.base import EXAMPLES, SELF, Interactions, Tally, settle
from common.data.tables.text import TextFile
from common.data.tables.text_table import Layout, TextTable, split_line
from common.errors import UserError, count_of, excerpt

IdMap = Mapping[str, tuple[str, ...]]

NO_SEQUENCE = "dropped: pairs of proteins without a sequence"
MISSING = "proteins without a sequence"
SEVERAL = "proteins that several different sequences fit"
BY_MAP = "proteins found by the id map"
BY_FORM = "proteins found without organism prefix or version"

_PREFIX = re.compile(r"\d+\.(?=.)", re.ASCII)
_VERSION = re.compile(r"(?<=.)\.\d+$", re.ASCII)
_VERSIONED = re.compile(r"ENS[A-Z]*[PGT]\d+|[ANXY]P_\d+|[A-Z]{3}\d{5,7}", re.ASCII)
_DATABASES = frozenset(["ref", "gb", "emb", "dbj", "pir", "prf", "tpg", "lcl", "gnl"])
_ORGANISM = re.compile(rb"^>[ \t]*(\S+)[^\n]*?\bOX=(\d{1,9})\b", re.M)


def read_id_map(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read an id map, whose two columns are the id of an interaction file and the sequence's id.

    Several lines may map the same id; a header line does no harm.

    Raises:
        UserError: The file cannot be read, or does not have two columns.
    """
    table = TextTable(path)
    line = table.head.lines[0]
    delimiter = next((mark for mark in "\t,;" if mark in line), None)
    found: dict[str, dict[str, None]] = {}
    width = len(split_line(line, delimiter))
    if width != 2:
        raise UserError(
            f"{path}: the first line '{excerpt(line)}' has {count_of(width, 'column')} instead of"
            " two (id in the interaction file, id in the sequence file); keep only these two"
            " columns"
        )
    for block in table.blocks(Layout(delimiter, 2, {"from": 0, "to": 1})):
        sides = [block.names(side, str.strip) for side in ("from", "to")]
        names = ([side.values[code] for code in side.codes] for side in sides)
        for source, target in zip(*names, strict=True):
            if source and target:
                found.setdefault(plain_id(source), {}).setdefault(target)
    return {source: tuple(targets) for source, targets in found.items()}


def read_organisms(path: str | Path) -> dict[str, int]:
    """Read each protein's organism (NCBI taxid) from UniProt's FASTA headers (`OX=9606`), by id.

    Raises:
        UserError: The file cannot be read.
    """
    found = (pair for block in TextFile(path).text_blocks() for pair in _ORGANISM.findall(block))
    return {plain_id(name.decode()): int(taxid) for name, taxid in found}


def plain_id(name: str) -> str:
    """Return the accession in a name such as `sp|P12345|NAME`, or a name without bars unchanged."""
    parts = name.split("|")
    if parts[0] == "gi" and len(parts) > 3:
        parts = parts[2:]
    if len(parts) > 1 and parts[0] in _DATABASES and parts[1]:
        return parts[1]
    return shorten_uniprot("|".join(parts))


def known_ids(sequences: Iterable[str], id_map: IdMap | None = None) -> frozenset[str]:
    """Return all ids by which a sequence can be found, including shortened and mapped ids."""
    forms = {text for name in sequences for _, text in _forms(name)}
    return frozenset(forms.union(id_map or ()))


def meet(
    interactions: Interactions, sequences: Mapping[str, str], id_map: IdMap | None = None
) -> tuple[Interactions, tuple[str, ...]]:
    """Replace the protein ids of interactions by the matching ids of sequences.

    Args:
        interactions: The interactions as read from files.
        sequences: The sequences by id.
        id_map: The sequence ids to try first for an id of the interactions.

    Returns:
        The interactions whose proteins both have a sequence, including counts of dropped pairs;
        and all proteins without a sequence.

    Raises:
        UserError: No interaction is left; the message shows ids of both files.
    """
    finder = _Finder(sequences, _turn(id_map or {}, interactions, sequences))
    # `settle` counts the self-interactions again.
    tally = Tally([count for count in interactions.counts if count.step != SELF])
    found = [finder.find(name) for name in interactions.ids]
    names = {name: number for number, name in enumerate(dict.fromkeys(filter(None, found)))}
    numbers = np.array([names.get(name or "", -1) for name in found], np.int64)
    pairs, barred = numbers[interactions.pairs], numbers[interactions.contradictions]
    kept = pairs.min(axis=1, initial=np.iinfo(np.int64).max) >= 0
    missing = tuple(n for n, hit in zip(interactions.ids, found, strict=True) if hit is None)
    for step, ids in finder.met.items():
        tally.add(step, len(ids), ids[:EXAMPLES])
    tally.add(MISSING, len(missing), missing[:EXAMPLES])
    tally.add(NO_SEQUENCE, int((~kept).sum()))
    if not kept.any():
        raise UserError(_explain_strangers(interactions, sequences, id_map, len(missing)))
    barred = barred[barred.min(axis=1, initial=0) >= 0]
    labels, scores = interactions.labels[kept], interactions.scores[kept]
    return settle(list(names), pairs[kept], labels, scores, tally, barred), missing


def _forms(name: str) -> Iterator[tuple[str, str]]:
    """Yield shortened forms of an id, each with the parts cut off: `p` (prefix), `v` (version)."""
    plain = plain_id(name)
    stems = [("", plain)]
    if prefix := _PREFIX.match(plain):
        stems.append(("p", plain[prefix.end() :]))
    for cut, text in stems:
        yield cut, text
        if version := _VERSION.search(text):
            yield f"{cut}v", text[: version.start()]


class _Finder:
    """Finds the sequence that belongs to a protein id of an interaction file.

    Attributes:
        met: The ids that matched in another form or matched several sequences, by kind of match.
    """

    def __init__(self, sequences: Mapping[str, str], id_map: IdMap) -> None:
        self.sequences = sequences
        self.id_map = id_map
        self.met: dict[str, list[str]] = {BY_MAP: [], BY_FORM: [], SEVERAL: []}
        # By the parts cut off: each form's full id, or None if several different sequences match.
        self.forms: dict[str, dict[str, str | None]] = {}
        for name in sequences:
            for cut, text in _forms(name):
                first = self.forms.setdefault(cut, {}).setdefault(text, name)
                if first is not None and sequences[first] != sequences[name]:
                    self.forms[cut][text] = None

    def find(self, name: str) -> str | None:
        """Return the id of the matching sequence, or None if no sequence or several match."""
        for target in self.id_map.get(plain_id(name), ()):
            hit = self._find(target)
            if hit:
                self.met[BY_MAP].append(name)
                return hit
        hit = self._find(name)
        if hit is None:
            return None
        if not hit:
            self.met[SEVERAL].append(name)
        elif hit != name and plain_id(hit) != plain_id(name):
            self.met[BY_FORM].append(name)
        return hit or None

    def _find(self, name: str) -> str | None:
        """Return the id of the matching sequence, "" if several match, or None if none matches."""
        if name in self.sequences:
            return name
        several = False
        for text, cut in self._combinations(name):
            if text not in self.forms[cut]:
                continue
            hit = self.forms[cut][text]
            if hit is not None:
                return hit
            several = True
        return "" if several else None

    def _combinations(self, name: str) -> list[tuple[str, str]]:
        """Return ways to match an id: a form of the id, and the parts to cut off sequence ids."""
        allowed = [
            (len(own) + len(cut), text, cut)
            for own, text in _forms(name)
            for cut in self.forms
            if not (own.startswith("p") and cut.startswith("p"))
            and (not (own.endswith("v") and cut.endswith("v")) or _VERSIONED.fullmatch(text))
        ]
        return [(text, cut) for _, text, cut in sorted(allowed)]


def _turn(id_map: IdMap, interactions: Interactions, sequences: Mapping[str, str]) -> IdMap:
    """Swap the two columns of the id map if the interactions use the ids of the second column."""
    ids = {plain_id(name) for name in interactions.ids}
    backwards: dict[str, tuple[str, ...]] = {}
    for source, targets in id_map.items():
        for target in targets:
            backwards[plain_id(target)] = (*backwards.get(plain_id(target), ()), source)
    return backwards if ids.isdisjoint(id_map) and not ids.isdisjoint(backwards) else id_map


def _explain_strangers(
    interactions: Interactions,
    sequences: Mapping[str, str],
    id_map: IdMap | None,
    missing: int,
) -> str:
    def quote(names: Iterable[str]) -> str:
        return " and ".join(f"'{excerpt(name)}'" for name in list(names)[:2])

    remedy = (
        "correct data_config.interactions.id_map, which maps"
        f" {quote(id_map)} to {quote(t[0] for t in id_map.values())}"
        if id_map
        else "translate the ids by data_config.interactions.id_map (two columns), or use the"
        " sequences that belong to the interactions"
    )
    return (
        f"none of the {len(interactions)} interactions is left, because {missing} of"
        f" {len(interactions.ids)} proteins have no sequence: the interactions contain ids such as"
        f" {quote(interactions.ids)}, but data_config.interactions.sequences contains ids such as"
        f" {quote(sequences)}; {remedy}"
    )
