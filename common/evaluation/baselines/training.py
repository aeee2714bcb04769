"""What a baseline that learns is given: the training pairs, and the sequences of all proteins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from common.data.tables.pairs import PairTable, check_sequences
from common.errors import UserError
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide

# The scores (N,) of pairs, by training pairs, those pairs, and sequences of all proteins of both.
LearnedScores = Callable[[PairTable, PairTable, Mapping[str, str]], FloatArray]


class NoTrainingPairsError(UserError):
    """The benchmark has no training pairs, so a baseline that needs them cannot be run."""


def training_pairs(side: TestSide) -> PairTable:
    """The training pairs of the configured species.

    Raises:
        NoTrainingPairsError: It is for testing alone.
    """
    benchmark = side.sets[0].benchmark
    files = benchmark.files()
    # A benchmark that does not list its files has all splits.
    if files and "train" not in files:
        raise NoTrainingPairsError(
            f"{benchmark.species} ({benchmark.strategy}) has no training pairs"
        )
    return benchmark.pairs("train")


def learn_and_score(side: TestSide, score: LearnedScores) -> Predictions:
    """The predictions of a baseline that learns from training pairs and sequences.

    With `data_config.benchmark.missing_sequences: drop`, pairs of proteins without a sequence get
    no score, as from a model.

    Raises:
        UserError: Sequences are missing and the setting refuses that.
        NoTrainingPairsError: There are no training pairs.
    """
    policy = side.sets[0].benchmark.settings.missing_sequences
    train, sequences = training_pairs(side), side.sequences()
    train, _ = check_sequences(train, sequences, policy, "training pairs")
    table, _ = check_sequences(side.needed_pairs(), sequences, policy, "pairs to score")
    return Predictions.gather(table.proteins, table.pairs, score(train, table, sequences))
