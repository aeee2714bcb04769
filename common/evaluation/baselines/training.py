"""Load the data for baselines that learn from training pairs, and cache the resulting scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.data.benchmarks.registry import open_benchmark
from common.data.tables.pairs import PairTable, check_sequences
from common.errors import UserError
from common.evaluation.baselines.base import BaselineLeftOutError
from common.evaluation.baselines.stored import digest_of, remember_scores
from common.evaluation.networks import FloatArray
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide

# A function of training pairs, pairs to score and all proteins' sequences that returns scores (N,).
LearnedScores = Callable[[PairTable, PairTable, Mapping[str, str]], FloatArray]


class NoTrainingPairsError(BaselineLeftOutError):
    """Raised if the benchmark has no training pairs, so that a baseline cannot be trained."""


@dataclass(frozen=True)
class Learner:
    """A baseline that learns from training pairs and sequences, with a cache for the scores.

    Attributes:
        name: The name of the baseline in the registry.
        version: A text with everything else that affects the scores: settings, seed, versions of
            libraries. Change this text when the code changes, so that cached scores are not reused.
        score: The function that learns from the training pairs and scores the other pairs.
    """

    name: str
    version: str
    score: LearnedScores

    def predict(self, side: TestSide, seed: int) -> Predictions:
        """Score the test pairs, or read the scores from the cache of an earlier run.

        The cache is in `data_config.benchmark.cache_dir`. With
        `data_config.benchmark.missing_sequences: drop`, pairs of proteins without a sequence get no
        score, as with a model.

        Raises:
            UserError: Sequences are missing, and `missing_sequences` is not `drop`.
            NoTrainingPairsError: The benchmark has no training pairs.
        """
        train, table, sequences = learning_tables(side, seed)
        digest = digest_of([self.version, *_content(train, sequences), *_content(table, sequences)])
        file = (
            Path(side.sets[0].benchmark.settings.cache_dir) / "baselines" / f"{self.name}-{digest}"
        )
        scores = remember_scores(file, len(table), lambda: self.score(train, table, sequences))
        return Predictions.gather(table.proteins, table.pairs, scores)


def learning_tables(side: TestSide, seed: int) -> tuple[PairTable, PairTable, Mapping[str, str]]:
    """Return the training pairs, the pairs to score, and the sequences of all proteins.

    Raises:
        UserError: Sequences are missing, and `data_config.benchmark.missing_sequences` is not
            `drop`.
        NoTrainingPairsError: The benchmark has no training pairs.
    """
    policy = side.sets[0].benchmark.settings.missing_sequences
    train, sequences = training_pairs(side, seed), side.sequences()
    train, _ = check_sequences(train, sequences, policy, "training pairs")
    table, _ = check_sequences(side.needed_pairs(), sequences, policy, "pairs to score")
    return train, table, sequences


def training_pairs(side: TestSide, seed: int) -> PairTable:
    """Return the training pairs of the configured species, and download missing files if allowed.

    Raises:
        NoTrainingPairsError: The benchmark has no training pairs of the species.
    """
    benchmark = side.sets[0].benchmark
    if not benchmark.has("train"):
        try:
            benchmark.provide(benchmark.settings, seed, ("train",))
        except UserError as error:
            raise NoTrainingPairsError(str(error)) from None
        benchmark = open_benchmark(benchmark.settings)
    if not benchmark.has("train"):
        raise NoTrainingPairsError(
            f"{benchmark.species} ({benchmark.strategy}) has no training pairs"
        )
    return benchmark.pairs("train")


def _content(table: PairTable, sequences: Mapping[str, str]) -> list[object]:
    """Return the contents of a table of pairs, from which the cache's digest is computed."""
    texts = [f"{name} {sequences[name]}" for name in table.proteins]
    return ["\n".join(texts), table.pairs, table.labels]
