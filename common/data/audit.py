"""Counts leaks between the splits of a benchmark, and irregularities within each split.

`audit_splits` counts; `audit_facts` says what the counts mean. What is normal in PRING (validation
proteins occur in training, self-pairs are positive) is information; what changes the meaning of a
test score is a warning; `data_config.audit: strict` refuses the most severe faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from common.data.audit_facts import EXAMPLES, Audit, Count, SharedFacts, SplitFacts
from common.data.negatives import encode_pairs
from common.data.similarity import Method, find_similar
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable

NEAR_IDENTICAL = 0.9


def audit_splits(
    tables: Mapping[str, PairTable],
    sequences: Mapping[str, str],
    max_length: int | None,
    identity: float = NEAR_IDENTICAL,
    method: Method | None = "k-mers",
) -> Audit:
    """Compute the statistics of every split, and the overlap between every two splits.

    Args:
        tables: The pairs by split, training first.
        sequences: The sequences by protein; proteins without a sequence are not compared.
        max_length: The number of residues to which sequences are cut; None cuts no sequence.
        identity: The lowest identity at which sequences of two splits count as nearly identical.
        method: How similar sequences are found. At high identities, k-mers take seconds and miss
            hardly any pair; None uses MMseqs2 if it is installed.

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
    """The pairs of one split, with proteins numbered in the same way in all splits."""

    proteins: Sequence[str]
    pairs: NDArray[np.int64]
    labels: NDArray[np.int8]

    @classmethod
    def of(cls, table: PairTable, proteins: Sequence[str]) -> _Numbered:
        return cls(proteins, places_of(table.proteins, proteins)[table.pairs], table.labels)

    def codes(self, label: int | None = None) -> NDArray[np.int64]:
        """Encode the distinct pairs, or the pairs with this label, as sorted numbers."""
        pairs = self.pairs if label is None else self.pairs[self.labels == label]
        return np.unique(encode_pairs(pairs, len(self.proteins)))

    def degrees(self) -> NDArray[np.int64]:
        """Return the number of positive pairs of each protein, (P,); a self-pair counts twice."""
        return np.bincount(self.pairs[self.labels == 1].ravel(), minlength=len(self.proteins))

    def present(self) -> NDArray[np.bool_]:
        """Return a mask (P,) of the proteins that occur in this split."""
        return np.bincount(self.pairs.ravel(), minlength=len(self.proteins)) > 0

    def name_pairs(self, codes: NDArray[np.int64]) -> Count:
        pairs = np.stack(np.divmod(codes[:EXAMPLES], len(self.proteins)), axis=1).tolist()
        return Count(len(codes), tuple(f"{self.proteins[a]} {self.proteins[b]}" for a, b in pairs))

    def name_proteins(self, mask: NDArray[np.bool_]) -> Count:
        rows = np.flatnonzero(mask)
        return Count(len(rows), tuple(self.proteins[row] for row in rows[:EXAMPLES]))


def _describe(
    split: _Numbered, training: _Numbered, lengths: NDArray[np.int64], max_length: int | None
) -> SplitFacts:
    codes, counts = np.unique(encode_pairs(split.pairs, len(lengths)), return_counts=True)
    positive, negative = split.codes(1), split.codes(0)
    both = np.intersect1d(positive, negative, assume_unique=True)
    itself = split.labels[split.pairs[:, 0] == split.pairs[:, 1]]
    present, cut = split.present(), lengths > (np.inf if max_length is None else max_length)
    degrees = training.degrees()[split.pairs]
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
        degree_auroc=_auroc(degrees.sum(1), split.labels),
        degree_product_auroc=_auroc(degrees.prod(1), split.labels),
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
    # A similar pair counts if one protein is in the second split and the other only in the first.
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
