"""Results of auditing a benchmark's splits: statistics, findings in plain words, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from common.console import align
from common.errors import UserError, count_of, excerpt

if TYPE_CHECKING:
    from common.data.similarity import Method

Level = Literal["info", "warning", "refused"]
Examples = tuple[str, ...]

EXAMPLES = 5
# A split that shares at least this fraction of its proteins with training does so by design.
_MOSTLY_SHARED = 0.5


@dataclass(frozen=True)
class Finding:
    """A sentence about a benchmark's splits, with a short name and a severity level."""

    name: str
    level: Level
    sentence: str


@dataclass(frozen=True)
class Count:
    """The number of pairs or proteins that a finding is about, with up to five examples."""

    count: int
    examples: Examples = ()

    def find(self, name: str, level: Level, noun: str, rest: str) -> Iterator[Finding]:
        """Yield a finding that reports the count, or nothing if the count is zero."""
        if self.count:
            subject = count_of(self.count, f"{noun} is", f"{noun}s are")
            yield Finding(name, level, f"{subject} {rest} ({self})")

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return ", ".join(map(excerpt, self.examples)) + more


@dataclass(frozen=True)
class SplitFacts:
    """Statistics of one split of a benchmark.

    Attributes:
        pairs: Listed pairs, repeated ones included.
        positives: Pairs labelled 1.
        proteins: Distinct protein ids.
        repeated: Pairs that are listed more than once, in either order, always with the same label.
        contradictory: Pairs that are listed with both labels.
        self_positive: Self-pairs labelled 1.
        self_negative: Self-pairs labelled 0.
        negative_only: Proteins without a positive pair in this split or in training.
        cut_proteins: Proteins that are longer than the maximum length and are therefore cut.
        cut_pairs: Pairs that contain a cut protein.
        longest: Residues of the longest protein.
        seen: The numbers of pairs with 0, 1 and 2 proteins that occur in training.
        degree_auroc: AUROC of the sum of both proteins' numbers of positive training pairs; None
            where one class is absent.
        degree_product_auroc: AUROC of the product of these two numbers instead of their sum.
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
    degree_product_auroc: float | None


@dataclass(frozen=True)
class SharedFacts:
    """The pairs and proteins that two splits have in common.

    Attributes:
        pairs: Pairs that both splits contain, in either order.
        relabelled: Shared pairs that have a different label in each split.
        proteins: Ids that both splits contain.
        same_sequence: Pairs of different ids, one from each split, with the same sequence.
        near_identical: Pairs of different ids, one from each split, whose sequences are similar at
            the audit's identity; pairs with the same sequence are not counted here.
    """

    pairs: Count
    relabelled: Count
    proteins: Count
    same_sequence: Count
    near_identical: Count


@dataclass(frozen=True)
class Audit:
    """Statistics of every split of a benchmark, and the overlap between every two splits.

    Attributes:
        splits: The statistics of each split, by the split's name; training comes first.
        shared: The overlap of every two splits, by the names of both.
        identity: The lowest identity at which sequences count as nearly identical.
        method: The search method that found nearly identical sequences.
        max_length: The number of residues to which sequences are cut; None if no sequence is cut.
        trained_on: The test pairs that the evaluated checkpoint was trained on, by species.
    """

    splits: Mapping[str, SplitFacts]
    shared: Mapping[tuple[str, str], SharedFacts]
    identity: float
    method: Method
    max_length: int | None
    trained_on: Mapping[str, Count] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all statistics and findings as the content of `audit.json`."""
        return {
            "identity": self.identity,
            "method": self.method,
            "max_sequence_length": self.max_length,
            "splits": {name: asdict(facts) for name, facts in self.splits.items()},
            "shared": {"/".join(names): asdict(facts) for names, facts in self.shared.items()},
            "trained_on": {name: asdict(count) for name, count in self.trained_on.items()},
            "findings": [asdict(finding) for finding in self.findings()],
        }

    def findings(self) -> list[Finding]:
        """Return the findings, the most severe first: refused, warning, information."""
        found = [one for name in self.splits for one in self._judge_split(name)]
        found += [one for names in self.shared for one in self._judge_shared(*names)]
        words = "among the training pairs of the checkpoint"
        for species, count in self.trained_on.items():
            found += count.find("trained_on", "refused", f"{species} test pair", words)
        order: Sequence[Level] = ("refused", "warning", "info")
        return sorted(found, key=lambda finding: order.index(finding.level))

    def refuse(self) -> None:
        """Raise an error if any finding is one that `data_config.audit: strict` refuses.

        Raises:
            UserError: The splits have faults that make a test score meaningless.
        """
        refused = [found.sentence for found in self.findings() if found.level == "refused"]
        if refused:
            raise UserError(
                "data_config.audit: strict refuses these splits: "
                + "; ".join(refused)
                + ". Remove these pairs from the splits, or set data_config.audit: warn"
            )

    def _judge_split(self, name: str) -> Iterator[Finding]:
        facts, pair, protein = self.splits[name], f"{name} pair", f"{name} protein"
        if facts.positives in (0, facts.pairs):
            kind = "positive" if facts.positives else "negative"
            yield Finding("one_class", "refused", f"all {facts.pairs:,} {pair}s are {kind}")
        words = "listed with both labels"
        yield from facts.contradictory.find("contradictory", "refused", pair, words)
        yield from facts.repeated.find("repeated", "warning", pair, "listed more than once")
        words = f"listed only in negative pairs, out of {facts.proteins:,} proteins"
        yield from facts.negative_only.find("negative_only", "info", protein, words)
        words = f"cut to {self.max_length or 0:,} residues, which affects {facts.cut_pairs:,} pairs"
        words += f"; the longest protein has {facts.longest:,}"
        yield from facts.cut_proteins.find("cut", "info", protein, words)
        if selves := facts.self_positive + facts.self_negative:
            words = f"{facts.self_positive:,} of {selves:,} {name} self-pairs are positive"
            yield Finding("self_pairs", "info", words)
        if facts.degree_auroc is not None:
            words = f"predicting {pair}s from the sum / product of both proteins' training degrees"
            yield Finding("degree", "info", f"{words} has an AUROC of {_show_degrees(facts)}")
        if name != self._training:
            shares = " / ".join(f"{count / facts.pairs:.1%}" for count in facts.seen)
            words = f"{shares} of the {pair}s have 0 / 1 / 2 proteins of {self._training}"
            yield Finding("seen", "info", words)

    def _judge_shared(self, first: str, second: str) -> Iterator[Finding]:
        facts, test = self.shared[first, second], second == "test"
        # PRING's validation proteins are training proteins by design; sharing only a few is a leak.
        design = facts.proteins.count >= _MOSTLY_SHARED * self.splits[second].proteins
        shared: Level = "refused" if test else "info" if design else "warning"
        similar: Level = "info" if design and not test else "warning"
        both = f"in both {first} and {second}"
        yield from facts.pairs.find("shared_pairs", "refused" if test else "warning", "pair", both)
        words = f"positive in one of {first} and {second} but negative in the other"
        yield from facts.relabelled.find("relabelled", "warning", "pair", words)
        yield from facts.proteins.find("shared_proteins", shared, "protein", both)
        words = f"made of a {first} protein and a different {second} protein with"
        same, noun = f"{words} the same sequence", "protein pair"
        yield from facts.same_sequence.find("same_sequence", similar, noun, same)
        near = f"{words} at least {self.identity:.0%} sequence identity, so a model that memorizes"
        near += " one protein can predict the other. The rows test_identity_* of evaluate.csv show"
        near += " the effect, and data_config.interactions.max_identity keeps such proteins in one"
        near += " split when you prepare your own data"
        yield from facts.near_identical.find("near_identical", similar, noun, near)

    @property
    def _training(self) -> str:
        return next(iter(self.splits))

    def table(self) -> str:
        """Return two text tables: the statistics of each split, and the overlaps between splits."""
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
        return align(rows) + (f"\n\n{align(shared)}" if self.shared else "")


def _show_degrees(facts: SplitFacts) -> str:
    values = (facts.degree_auroc, facts.degree_product_auroc)
    return " / ".join("-" if value is None else f"{value:.3f}" for value in values)


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
        "cut proteins / affected pairs",
        lambda facts: f"{facts.cut_proteins.count:,} / {facts.cut_pairs:,}",
    ),
    ("longest protein", lambda facts: f"{facts.longest:,}"),
    ("% with 0 / 1 / 2 training proteins", _show_seen),
    ("AUROC of training degrees, sum / product", _show_degrees),
]
_SHARED_ROWS = [
    ("shared pairs", "pairs"),
    ("with different labels", "relabelled"),
    ("shared proteins", "proteins"),
    ("same sequence, other id", "same_sequence"),
    ("nearly identical sequences", "near_identical"),
]
