"""What leaks between the splits of a benchmark, and what is odd in them.

`audit_splits` counts; `Audit.findings` says in sentences what the counts mean. What is normal in
PRING (validation proteins are seen in training, self-pairs are positive) is information, what makes
a test score mean something else is a warning, and `strict` refuses the worst of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from common.data.negatives import encode_pairs
from common.data.similarity import Method, find_similar
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt

Mode = Literal["off", "warn", "strict"]
Level = Literal["info", "warning", "refused"]
Examples = tuple[str, ...]

NEAR_IDENTICAL = 0.9
_EXAMPLES = 5
# From this share of a split's proteins on, sharing them with training is its design.
_MOSTLY_SHARED = 0.5


@dataclass(frozen=True)
class Finding:
    """One sentence about the splits, under a short name."""

    name: str
    level: Level
    sentence: str


@dataclass(frozen=True)
class Count:
    """How many of something, and the first five."""

    count: int
    examples: Examples = ()

    def find(self, name: str, level: Level, sentence: str) -> Iterator[Finding]:
        """The finding that a sentence with `{}` for the number makes, if there is anything."""
        if self.count:
            yield Finding(name, level, f"{sentence.format(f'{self.count:,}')} ({self})")

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return ", ".join(map(excerpt, self.examples)) + more


@dataclass(frozen=True)
class SplitFacts:
    """One split.

    Attributes:
        pairs: Lines of the file.
        positives: Those labelled 1.
        proteins: Distinct ids.
        repeated: Pairs that are listed more than once, in either order, always with one label.
        contradictory: Pairs that are listed with both labels.
        self_positive: Self-pairs labelled 1.
        self_negative: Self-pairs labelled 0.
        negative_only: Proteins without a positive pair in this split or in training.
        cut_proteins: Proteins longer than `max_sequence_length`.
        cut_pairs: Pairs with such a protein.
        longest: Residues of the longest protein.
        seen: Pairs with 0, 1 and 2 proteins that occur in training.
        degree_auroc: AUROC of the sum of both proteins' numbers of positive training pairs; None
            where one class is absent.
    """

    pairs: int
    positives: int
    proteins: int
    repeated: Count
    contradictory: Count
    self_positive: int
    self_negative: int
    negative_only: Count
    cut_proteins: Count
    cut_pairs: int
    longest: int
    seen: tuple[int, int, int]
    degree_auroc: float | None


@dataclass(frozen=True)
class SharedFacts:
    """What two splits have in common.

    Attributes:
        pairs: Pairs of both, in either order.
        relabelled: Those of them with another label in each.
        proteins: Ids of both.
        same_sequence: Pairs of different ids, one of each split, with the same sequence.
        near_identical: Pairs of different ids, one of each split, whose sequences are similar at
            the audit's identity; those with the same sequence are not among them.
    """

    pairs: Count
    relabelled: Count
    proteins: Count
    same_sequence: Count
    near_identical: Count


@dataclass(frozen=True)
class Audit:
    """The facts of all splits.

    Attributes:
        splits: By name; training comes first.
        shared: By the names of two splits.
        identity: From which identity on sequences count as nearly identical.
        method: How such sequences were found.
        max_length: `max_sequence_length`.
    """

    splits: Mapping[str, SplitFacts]
    shared: Mapping[tuple[str, str], SharedFacts]
    identity: float
    method: Method
    max_length: int

    def to_dict(self) -> dict[str, Any]:
        """All facts and findings, for audit.json."""
        return {
            "identity": self.identity,
            "method": self.method,
            "max_sequence_length": self.max_length,
            "splits": {name: asdict(facts) for name, facts in self.splits.items()},
            "shared": {"/".join(names): asdict(facts) for names, facts in self.shared.items()},
            "findings": [asdict(finding) for finding in self.findings()],
        }

    def findings(self) -> list[Finding]:
        """What the facts mean; what `strict` refuses comes first, then warnings."""
        found = [one for name in self.splits for one in self._judge_split(name)]
        found += [one for names in self.shared for one in self._judge_shared(*names)]
        order: Sequence[Level] = ("refused", "warning", "info")
        return sorted(found, key=lambda finding: order.index(finding.level))

    def refuse(self) -> None:
        """Stop where `strict` does.

        Raises:
            UserError: What a score on these splits would not be worth anything for.
        """
        refused = [found.sentence for found in self.findings() if found.level == "refused"]
        if refused:
            raise UserError(
                "data_config.audit: strict refuses these splits: "
                + "; ".join(refused)
                + "; remove those lines, or set data_config.audit: warn"
            )

    def _judge_split(self, name: str) -> Iterator[Finding]:
        facts = self.splits[name]
        selves = facts.self_positive + facts.self_negative
        if facts.positives in (0, facts.pairs):
            kind = "positive" if facts.positives else "negative"
            yield Finding("one_class", "refused", f"all {facts.pairs:,} {name} pairs are {kind}")
        yield from facts.contradictory.find(
            "contradictory", "refused", f"{{}} {name} pairs are listed with both labels"
        )
        yield from facts.repeated.find(
            "repeated", "warning", f"{{}} {name} pairs are listed more than once"
        )
        yield from facts.negative_only.find(
            "negative_only",
            "info",
            f"{{}} of {facts.proteins:,} {name} proteins occur only in negatives",
        )
        yield from facts.cut_proteins.find(
            "cut",
            "info",
            f"{{}} of {facts.proteins:,} {name} proteins, in {facts.cut_pairs:,} pairs, are cut to"
            f" {self.max_length:,} residues (the longest has {facts.longest:,})",
        )
        if selves:
            words = f"{facts.self_positive:,} of {selves:,} {name} self-pairs are positive"
            yield Finding("self_pairs", "info", words)
        if facts.degree_auroc is not None:
            words = f"the sum of training degrees alone has AUROC {facts.degree_auroc:.3f}"
            yield Finding("degree", "info", f"{words} on {name} pairs")
        if name != self._training:
            shares = " / ".join(f"{count / facts.pairs:.1%}" for count in facts.seen)
            words = f"{shares} of the {name} pairs have 0 / 1 / 2 proteins seen in {self._training}"
            yield Finding("seen", "info", words)

    def _judge_shared(self, first: str, second: str) -> Iterator[Finding]:
        facts, both = self.shared[first, second], f"both {first} and {second}"
        test = second == "test"
        # PRING's validation proteins are training proteins; one of a few is a leak.
        few = facts.proteins.count < _MOSTLY_SHARED * self.splits[second].proteins
        level: Level = "refused" if test else "warning" if few else "info"
        yield from facts.pairs.find(
            "shared_pairs", "refused" if test else "warning", f"{{}} pairs are in {both}"
        )
        yield from facts.relabelled.find(
            "relabelled", "warning", f"{{}} pairs have different labels in {first} and {second}"
        )
        yield from facts.proteins.find("shared_proteins", level, f"{{}} proteins are in {both}")
        between = f"pairs of a {first} and another {second} protein have"
        level = "warning" if test or few else "info"
        yield from facts.same_sequence.find(
            "same_sequence", level, f"{{}} {between} the same sequence"
        )
        yield from facts.near_identical.find(
            "near_identical", level, f"{{}} {between} at least {self.identity:.0%} identity"
        )

    @property
    def _training(self) -> str:
        return next(iter(self.splits))

    def table(self) -> str:
        """The facts as a table with one column for each split, and one for each two."""
        rows = [
            ["", *self.splits],
            *([label, *map(show, self.splits.values())] for label, show in _SPLIT_ROWS),
        ]
        names = [" / ".join(names) for names in self.shared]
        shared = [
            ["", *names],
            *(
                [label, *(f"{getattr(facts, key).count:,}" for facts in self.shared.values())]
                for label, key in _SHARED_ROWS
            ),
        ]
        return _lay_out(rows) + ("\n\n" + _lay_out(shared) if self.shared else "")


def _show_seen(facts: SplitFacts) -> str:
    return " / ".join(f"{100 * count / facts.pairs:.1f}" for count in facts.seen)


_SPLIT_ROWS: list[tuple[str, Callable[[SplitFacts], str]]] = [
    ("pairs", lambda facts: f"{facts.pairs:,}"),
    ("positive", lambda facts: f"{facts.positives:,}"),
    ("proteins", lambda facts: f"{facts.proteins:,}"),
    ("repeated pairs", lambda facts: f"{facts.repeated.count:,}"),
    ("contradictory pairs", lambda facts: f"{facts.contradictory.count:,}"),
    (
        "self-pairs, positive / negative",
        lambda facts: f"{facts.self_positive:,} / {facts.self_negative:,}",
    ),
    ("proteins only in negatives", lambda facts: f"{facts.negative_only.count:,}"),
    (
        "proteins cut / pairs with one",
        lambda facts: f"{facts.cut_proteins.count:,} / {facts.cut_pairs:,}",
    ),
    ("longest protein", lambda facts: f"{facts.longest:,}"),
    ("% of pairs with 0 / 1 / 2 seen", _show_seen),
    (
        "AUROC of training degrees",
        lambda facts: "-" if facts.degree_auroc is None else f"{facts.degree_auroc:.3f}",
    ),
]
_SHARED_ROWS = [
    ("shared pairs", "pairs"),
    ("with different labels", "relabelled"),
    ("shared proteins", "proteins"),
    ("same sequence, other id", "same_sequence"),
    ("nearly identical sequences", "near_identical"),
]


def _lay_out(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def audit_splits(
    tables: Mapping[str, PairTable],
    sequences: Mapping[str, str],
    max_length: int,
    identity: float = NEAR_IDENTICAL,
    method: Method | None = None,
) -> Audit:
    """Count what the splits share and what is odd in each.

    Args:
        tables: The pairs by split, training first.
        sequences: By protein; proteins without one are not compared.
        max_length: `data_config.max_sequence_length`.
        identity: From which identity on sequences of two splits count as nearly identical.
        method: How similar sequences are found; None takes MMseqs2 where it is installed.

    Raises:
        UserError: MMseqs2 fails.
    """
    proteins = sorted({protein for table in tables.values() for protein in table.proteins})
    known = {protein: sequences[protein] for protein in proteins if protein in sequences}
    lengths = np.array([len(known.get(protein, "")) for protein in proteins])
    numbered = {name: _Numbered.of(table, proteins) for name, table in tables.items()}
    similar = find_similar(known, identity, method)
    training = next(iter(numbered.values()))
    splits = {
        name: _describe(split, training, lengths, max_length) for name, split in numbered.items()
    }
    pairs = places_of(similar.names, proteins)[similar.pairs]
    texts = [known.get(protein) for protein in proteins]
    same = np.array([texts[a] == texts[b] for a, b in pairs.tolist()], np.bool_)
    shared = {
        (first, second): _compare(numbered[first], numbered[second], pairs, same)
        for first, second in combinations(numbered, 2)
    }
    return Audit(splits, shared, identity, similar.method, max_length)


@dataclass(frozen=True, eq=False)
class _Numbered:
    """A table whose proteins are numbered as those of all splits."""

    proteins: Sequence[str]
    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]

    @classmethod
    def of(cls, table: PairTable, proteins: Sequence[str]) -> _Numbered:
        return cls(proteins, places_of(table.proteins, proteins)[table.pairs], table.labels)

    def codes(self, label: int | None = None) -> NDArray[np.int64]:
        """Sorted, distinct codes of the pairs, or of those with a label."""
        pairs = self.pairs if label is None else self.pairs[self.labels == label]
        return np.unique(encode_pairs(pairs, len(self.proteins)))

    def degrees(self) -> NDArray[np.int64]:
        """How many ends of positive pairs each protein is."""
        return np.bincount(self.pairs[self.labels == 1].ravel(), minlength=len(self.proteins))

    def present(self) -> NDArray[np.bool_]:
        """Which proteins occur."""
        return np.bincount(self.pairs.ravel(), minlength=len(self.proteins)) > 0

    def name_pairs(self, codes: NDArray[np.int64]) -> Count:
        pairs = np.stack(np.divmod(codes[:_EXAMPLES], len(self.proteins)), axis=1).tolist()
        return Count(len(codes), tuple(f"{self.proteins[a]} {self.proteins[b]}" for a, b in pairs))

    def name_proteins(self, mask: NDArray[np.bool_]) -> Count:
        rows = np.flatnonzero(mask)
        return Count(len(rows), tuple(self.proteins[row] for row in rows[:_EXAMPLES]))


def _describe(
    split: _Numbered, training: _Numbered, lengths: NDArray[np.int64], max_length: int
) -> SplitFacts:
    codes, counts = np.unique(encode_pairs(split.pairs, len(lengths)), return_counts=True)
    positive, negative = split.codes(1), split.codes(0)
    both = np.intersect1d(positive, negative, assume_unique=True)
    itself = split.labels[split.pairs[:, 0] == split.pairs[:, 1]]
    present, cut = split.present(), lengths > max_length
    seen = np.bincount(training.present()[split.pairs].sum(1), minlength=3)
    return SplitFacts(
        pairs=len(split.labels),
        positives=int(split.labels.sum()),
        proteins=int(present.sum()),
        repeated=split.name_pairs(np.setdiff1d(codes[counts > 1], both)),
        contradictory=split.name_pairs(both),
        self_positive=int((itself == 1).sum()),
        self_negative=int((itself == 0).sum()),
        negative_only=split.name_proteins(present & (split.degrees() + training.degrees() == 0)),
        cut_proteins=split.name_proteins(present & cut),
        cut_pairs=int(cut[split.pairs].any(1).sum()),
        longest=int(lengths[present].max()),
        seen=(int(seen[0]), int(seen[1]), int(seen[2])),
        degree_auroc=_auroc(training.degrees()[split.pairs].sum(1), split.labels),
    )


def _auroc(scores: NDArray[np.int64], labels: NDArray[np.int8]) -> float | None:
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    ranks = float(rankdata(scores)[labels == 1].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def _compare(
    first: _Numbered, second: _Numbered, similar: NDArray[np.int64], same: NDArray[np.bool_]
) -> SharedFacts:
    pairs = np.intersect1d(first.codes(), second.codes(), assume_unique=True)
    relabelled = [
        np.intersect1d(first.codes(label), second.codes(1 - label), assume_unique=True)
        for label in (0, 1)
    ]
    of_first, of_second = first.present(), second.present()
    a, b = similar.T
    # A similar pair is across where one is of the first split alone and the other of the second.
    across = (of_first[a] & of_second[b] & ~of_first[b]) | (
        of_first[b] & of_second[a] & ~of_first[a]
    )
    codes = encode_pairs(similar, len(first.proteins))
    return SharedFacts(
        pairs=first.name_pairs(pairs),
        relabelled=first.name_pairs(np.union1d(*relabelled)),
        proteins=first.name_proteins(of_first & of_second),
        same_sequence=first.name_pairs(codes[across & same]),
        near_identical=first.name_pairs(codes[across & ~same]),
    )
