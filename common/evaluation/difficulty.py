"""Which test pairs are easy: seen in training, short, or similar to what training has.

A row of `evaluate.csv` for each class of pairs, named after the row of all (`test`):

| rows | the class of a pair |
|---|---|
| `test_seen2`, `test_seen1`, `test_seen0` | how many of its proteins occur in the training pairs |
| `test_length_upto_400`, `…_400_to_700`, `…_above_700` | the residues of its longer protein, uncut |
| `test_identity_below_30`, `…_30_to_50`, `…_from_50` | of its more similar protein: per cent identity to the nearest training protein |

The classes of two and one seen proteins are those of Park and Marcotte (Nature Methods 9, 2012,
1134–1136). The more similar protein decides, so that `test_identity_below_30` has the pairs of
which training knew nothing alike. Rows without pairs are left out.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.evaluation.test_side import TestSet

# A third of the pairs of PRING's human and yeast tests, more or less, is in each class.
LENGTHS = (400, 700)

Class = tuple[str, NDArray[np.bool_]]  # the end of the row's name, and which pairs are in it


def classify_pairs(test_set: TestSet) -> Iterator[Class]:
    """The classes of a test set's pairs that there are pairs of.

    A benchmark without training pairs, or without sequences, lacks the classes that need them.
    """
    table, benchmark = test_set.table, test_set.benchmark
    files = benchmark.files()
    # A benchmark that does not list its files has all of them.
    if not files or "train" in files:
        yield from _occurring(classify_seen(table, benchmark.pairs("train")))
    if not files or "sequences" in files:
        sequences = benchmark.sequences()
        lengths = [len(sequences.get(protein, "")) for protein in table.proteins]
        yield from _occurring(classify_lengths(table, lengths))


def classify_seen(table: PairTable, training: PairTable) -> list[Class]:
    """Pairs by how many of their proteins occur in the training pairs, the most first."""
    seen = (places_of(table.proteins, training.proteins) >= 0)[table.pairs].sum(axis=1)
    return [(f"seen{count}", seen == count) for count in (2, 1, 0)]


def classify_lengths(table: PairTable, lengths: Sequence[int]) -> list[Class]:
    """Pairs by the length of the longer protein.

    Args:
        table: The pairs.
        lengths: (P,) residues of the table's proteins; 0 for one without a sequence, whose pairs
            are in no class.
    """
    residues = np.array(lengths)[table.pairs]
    longer = np.where(residues.min(axis=1) > 0, residues.max(axis=1), -1)
    short, long = LENGTHS
    return [
        (f"length_upto_{short}", (longer > 0) & (longer <= short)),
        (f"length_{short}_to_{long}", (longer > short) & (longer <= long)),
        (f"length_above_{long}", longer > long),
    ]


def _occurring(classes: Sequence[Class]) -> list[Class]:
    return [(name, pairs) for name, pairs in classes if pairs.any()]
