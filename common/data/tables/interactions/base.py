"""The interface of readers of interaction files, and the steps that all file formats share.

A reader knows one format: it recognizes a file by the first lines and yields rows. Filters by
organism and score, duplicates, contradictions and the counts of dropped lines are the same for all
formats and are handled here. To add a format, write a module with a `READER` in this folder, and
add a line to `common.registry.READERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common.data.tables.text_table import Head, Names, TextTable
from common.errors import excerpt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Pairs = npt.NDArray[np.int64]

_NO_PAIRS = np.empty((0, 2), np.int64)
EXAMPLES = 10
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

# The steps that are counted, as the table of counts names them.
LINES = "lines read"
HEADERS = "lines taken for a header"
FOREIGN_TEXT = "lines read as Windows-1252"
NO_ORGANISM = "lines without an organism, kept"
OTHER_ORGANISM = "dropped: another organism"
NO_ID = "dropped: no usable protein id"
LOW_SCORE = "dropped: below min_score"
PARENTS = "isoforms and chains read as their parent protein"
REVERSED = "listed again in the other direction"
REPEATED = "listed again"
CONTRADICTIONS = "dropped: pairs listed with both labels"
SELF = "self-interactions, kept"
LEFT = "interactions left"


@dataclass(frozen=True)
class Count:
    """The number of lines, pairs or proteins that were counted in one step of reading.

    Attributes:
        step: What was counted, such as `dropped: another organism`.
        number: The count.
        examples: The first few ids, or pairs of ids, that were counted.
    """

    step: str
    number: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Distinct pairs of proteins that are known to interact, or known not to interact.

    Attributes:
        ids: The sorted ids of the proteins.
        pairs: (N, 2) indices into `ids`, the smaller first, sorted.
        labels: (N,) 1 where the pair interacts, else 0.
        scores: (N,) the highest score of each pair in the units of the file; NaN without a score.
        contradictions: (C, 2) pairs that are listed with both labels: excluded from `pairs`, and
            never drawn as negatives.
        counts: The counts of all steps of reading, in order.
    """

    ids: tuple[str, ...]
    pairs: Pairs
    labels: Labels
    scores: Floats
    contradictions: Pairs
    counts: tuple[Count, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Interactions({len(self)} pairs of {len(self.ids)} proteins)"

    def record(self) -> dict[str, int]:
        """Return the count of every step, and the number of remaining pairs."""
        return {count.step: count.number for count in self.all_counts()}

    def all_counts(self) -> tuple[Count, ...]:
        """Return the counts of all steps, and of the remaining pairs."""
        return (*self.counts, Count(LEFT, len(self)))


@dataclass(frozen=True)
class ReadOptions:
    """Options that select the interactions to read from files.

    Attributes:
        min_score: Drop interactions below this score, in the units of the file.
        taxid: Keep only interactions of this organism (NCBI taxonomy).
        known: The ids of the sequences, and the ids that an id map translates. If a file gives
            several names for a protein, the name that occurs here is used.
        organisms: The organism of each protein by id, for files that do not contain organisms.
    """

    min_score: float | None = None
    taxid: int | None = None
    known: Collection[str] = frozenset()
    organisms: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of an interaction file, in the form that all formats share.

    Attributes:
        first: The first protein of every row.
        second: The second protein of every row.
        labels: (R,) 1 or 0; None if all rows interact.
        scores: (R,) NaN for a row without a score; None if the format has no scores.
        organisms: (R, 2) taxids, 0 for an unknown organism; None if the format has no organisms.
        dropped: (R,) masks of rows that the reader excludes, by the name of the counted step.
    """

    first: Names
    second: Names
    labels: Labels | None = None
    scores: Floats | None = None
    organisms: Pairs | None = None
    dropped: Mapping[str, Mask] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.first.codes)


@dataclass(frozen=True)
class Reader:
    """The reader of one format of interaction files.

    Attributes:
        recognizes: Returns whether a file with these first lines has this format.
        rows: Yields the rows of a file; raises a UserError with the line of an unreadable value.
    """

    recognizes: Callable[[Head], bool]
    rows: Callable[[TextTable, ReadOptions], Iterator[Rows]]


class Tally:
    """Collects the counts of reading steps, in the order in which the steps first occur."""

    def __init__(self, counts: Sequence[Count] = ()) -> None:
        self._counts = {count.step: count for count in counts}

    def add(self, step: str, number: int, examples: Sequence[str] = ()) -> None:
        """Add a number and examples to the count of a step; zero adds nothing."""
        if number:
            known = self._counts.get(step, Count(step, 0))
            shown = tuple(dict.fromkeys([*known.examples, *examples]))[:EXAMPLES]
            self._counts[step] = Count(step, known.number + number, shown)

    def counts(self) -> tuple[Count, ...]:
        """Return the counts of all steps that occurred."""
        return tuple(self._counts.values())


def check_score(text: str) -> float:
    """Convert the text of a score to a number.

    Raises:
        ValueError: The text is not a number.
    """
    if not _NUMBER.fullmatch(text.strip(" ")):
        raise ValueError(f"the score '{excerpt(text)}' is not a number such as 0.85")
    return float(text)


def settle(
    names: Sequence[str],
    pairs: npt.NDArray[np.integer],
    labels: Labels,
    scores: Floats,
    tally: Tally,
    barred: npt.NDArray[np.integer] = _NO_PAIRS,
) -> Interactions:
    """Merge repeated pairs, which may be listed in either direction, and drop contradictions.

    Args:
        names: The distinct ids of the proteins, in any order.
        pairs: (N, 2) indices into `names`.
        labels: (N,) the labels of the pairs.
        scores: (N,) the scores of the pairs; a merged pair keeps the highest score.
        tally: Counts repetitions, contradictions and self-interactions.
        barred: (C, 2) pairs that were already found, and counted, as contradictions.
    """
    ids, ranked = _sort_names(names, np.concatenate([pairs, barred]))
    flipped = ranked[: len(pairs), 0] > ranked[: len(pairs), 1]
    keys = ranked.min(axis=1) * len(ids) + ranked.max(axis=1)
    keys, barred_keys = keys[: len(pairs)], keys[len(pairs) :]
    del ranked
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_first = np.r_[True, keys[1:] != keys[:-1]]
    starts = np.flatnonzero(is_first)
    keys = keys[starts]
    unique = np.stack(np.divmod(keys, len(ids)), axis=1)
    _count_repeats(flipped[order], is_first, starts, ids, unique, tally)
    lowest, highest = (f.reduceat(labels[order], starts) for f in (np.minimum, np.maximum))
    best = np.fmax.reduceat(scores[order], starts)
    torn = lowest != highest
    tally.add(CONTRADICTIONS, int(torn.sum()), _pair_texts(ids, unique[torn]))
    clear = ~torn & ~np.isin(keys, barred_keys)
    itself = unique[clear & (unique[:, 0] == unique[:, 1])]
    tally.add(SELF, len(itself), [ids[a] for a in itself[:EXAMPLES, 0]])
    either = np.stack(np.divmod(np.union1d(keys[torn], barred_keys), len(ids)), axis=1)
    return Interactions(ids, unique[clear], highest[clear], best[clear], either, tally.counts())


def _sort_names(
    names: Sequence[str], pairs: npt.NDArray[np.integer]
) -> tuple[tuple[str, ...], Pairs]:
    """Sort the names that occur in the pairs; return these names, and the renumbered pairs."""
    used = np.flatnonzero(np.bincount(pairs.ravel(), minlength=len(names)))
    order = sorted(used.tolist(), key=lambda place: names[place])
    rank = np.zeros(len(names), np.int64)
    rank[order] = np.arange(len(order))
    return tuple(names[place] for place in order), rank[pairs].reshape(-1, 2)


def _count_repeats(
    flipped: Mask,
    is_first: Mask,
    starts: npt.NDArray[np.intp],
    ids: tuple[str, ...],
    unique: Pairs,
    tally: Tally,
) -> None:
    """Count repeated pairs, in the same or the other direction; rows must be sorted by pair."""
    groups = np.cumsum(is_first) - 1
    reverse = flipped != flipped[starts][groups]
    for step, again in ((REVERSED, reverse), (REPEATED, ~reverse & ~is_first)):
        tally.add(step, int(again.sum()), _pair_texts(ids, unique[groups[again][:EXAMPLES]]))


def _pair_texts(ids: Sequence[str], pairs: Pairs) -> list[str]:
    return [f"{ids[a]} {ids[b]}" for a, b in pairs[:EXAMPLES].tolist()]


def format_counts(interactions: Interactions) -> list[str]:
    """Format the counts of read, dropped and remaining interactions as the lines of a table."""
    counts = interactions.all_counts()
    width = max(len(count.step) for count in counts)
    digits = max(len(str(count.number)) for count in counts)
    return [
        f"{count.step:<{width}}  {count.number:>{digits}}  {_shorten(count.examples)}".rstrip()
        for count in counts
    ]


def _shorten(examples: Sequence[str]) -> str:
    shown = ", ".join(excerpt(example) for example in examples[:3])
    return f"({shown}, …)" if len(examples) > 3 else f"({shown})" if shown else ""
