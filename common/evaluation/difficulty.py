"""Group test pairs by difficulty: training proteins in the pair, length, and sequence identity.

`evaluate.csv` has a row for each class of pairs, named after the row of all pairs (`test`):

| rows | property that determines the class |
|---|---|
| `test_seen2`, `test_seen1`, `test_seen0` | the number of proteins that occur in training pairs |
| `test_length_upto_400`, `…_400_to_700`, `…_above_700` | residues of the longer, full sequence |
| `test_identity_below_30`, `…_30_to_50`, `…_from_50` | identity with training proteins, in % |

A model's training proteins are those that its checkpoint lists, even if the configured benchmark
has others. A prediction file, or a checkpoint without a list, is compared with the train split.

The first three rows are the classes C1, C2 and C3 of Park and Marcotte (Nature Methods 9, 2012,
1134–1136). The identity is the number of identical residues in an alignment with the most similar
training protein, divided by the length of the shorter sequence. The more similar protein of a pair
determines the class, so neither protein of a pair in `test_identity_below_30` is similar to a
training protein. Alignments are always found with k-mers, so that the rows do not depend on which
programs are installed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.data.similarity import match_sequences
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.evaluation.test_set import TestSet

# Each class has about a third of the pairs of PRING's human and yeast tests.
LENGTHS = (400, 700)
# Below about 30 % identity, homologs cannot be distinguished from unrelated proteins (Rost, Protein
# Engineering 12, 1999, 85–94).
IDENTITIES = (30, 50)

SEEN = {
    "seen2": "both proteins were seen in training",
    "seen1": "one protein was seen in training",
    "seen0": "no protein was seen in training",
}

Class = tuple[str, NDArray[np.bool_]]  # the suffix of the row's name, and a mask (N,) of pairs


def classify_pairs(test_set: TestSet) -> list[Class]:
    """Divide a test set's pairs into classes of difficulty, leaving out empty classes.

    Without training proteins or sequences, the classes that need such data are also left out.
    """
    table, benchmark, training = test_set.table, test_set.benchmark, test_set.training_proteins
    sequences = benchmark.sequences() if benchmark.has("sequences") else None
    classes = []
    if training is not None:
        classes += classify_seen(table, training)
    if sequences is not None:
        classes += classify_lengths(table, sequences)
    if training is not None and sequences is not None:
        classes += classify_identities(table, training, sequences)
    return [(name, pairs) for name, pairs in classes if pairs.any()]


def explain_classes(test_set: TestSet, classes: Sequence[Class]) -> str:
    """Say which training proteins the classes refer to, and which classes contain all pairs."""
    sentences, training, trained_on = [], test_set.training_proteins, test_set.trained_on
    if training is not None:
        origin = "in the train split of the configuration"
        if trained_on is not None and trained_on.proteins is not None:
            origin = f"of this benchmark among the {len(trained_on.proteins)} of the checkpoint"
        elif trained_on is not None:
            origin += ", because the checkpoint does not list its own"
        sentences.append(
            "The rows test_seen and test_identity compare test proteins with the"
            f" {len(training)} training proteins {origin}."
        )
    repeated = [
        f"test_{name}" + (f" ({SEEN[name]})" if name in SEEN else "")
        for name, pairs in classes
        if pairs.all()
    ]
    if repeated:
        sentences.append(
            f"All test pairs belong to {', '.join(repeated)}: rows that repeat the row test are"
            " left out here."
        )
    return " ".join(sentences)


def classify_seen(table: PairTable, training: tuple[str, ...]) -> list[Class]:
    """Classify pairs by the number of proteins that are training proteins: 2, 1 or 0."""
    seen = (places_of(table.proteins, training) >= 0)[table.pairs].sum(axis=1)
    return [(name, seen == count) for name, count in zip(SEEN, (2, 1, 0), strict=True)]


def classify_lengths(table: PairTable, sequences: Mapping[str, str]) -> list[Class]:
    """Classify pairs by the longer sequence's length; pairs that lack a sequence have no class."""
    lengths = np.array([len(sequences.get(protein, "")) for protein in table.proteins])[table.pairs]
    longer, known = lengths.max(axis=1), lengths.min(axis=1) > 0
    short, long = LENGTHS
    return [
        (f"length_upto_{short}", known & (longer <= short)),
        (f"length_{short}_to_{long}", known & (longer > short) & (longer <= long)),
        (f"length_above_{long}", known & (longer > long)),
    ]


def classify_identities(
    table: PairTable, training: Collection[str], sequences: Mapping[str, str]
) -> list[Class]:
    """Classify pairs by the highest sequence identity of their proteins with training proteins.

    Pairs that lack a sequence have no class.
    """
    known = np.array([protein in sequences for protein in table.proteins])
    rows = np.flatnonzero(known)
    matches = match_sequences(
        [sequences[table.proteins[row]] for row in rows],
        [sequences[protein] for protein in training if protein in sequences],
        method="k-mers",
    )
    nearest = np.zeros(len(known))
    np.maximum.at(nearest, rows[matches.pairs[:, 0]], matches.shares)
    share, judged = 100 * nearest[table.pairs].max(axis=1), known[table.pairs].all(axis=1)
    far, near = IDENTITIES
    return [
        (f"identity_below_{far}", judged & (share < far)),
        (f"identity_{far}_to_{near}", judged & (share >= far) & (share < near)),
        (f"identity_from_{near}", judged & (share >= near)),
    ]
