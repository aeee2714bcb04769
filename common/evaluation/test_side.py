"""The data for evaluating predictions: the test sets of one or more species, and the tasks.

`open_test_side` reads only the data that the tasks need. `TestSide.needed_pairs` returns the pairs
that a model has to score for the tasks, without repeating pairs that several tasks use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from common.config import Config
from common.data.benchmarks.registry import open_benchmark, prepare_benchmark
from common.data.pair_hashes import TrainedOn
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation.networks import pair_keys
from common.evaluation.pair_sets import PairSet
from common.evaluation.tasks.base import Task
from common.evaluation.test_set import TestSet
from common.registry import TASKS
from common.run import OneProcess

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, eq=False)
class TestSide:
    """The test sets of the configured species and of other species, and the tasks to evaluate."""

    __test__: ClassVar = False  # not for pytest

    sets: tuple[TestSet, ...]
    tasks: Mapping[str, Task]
    config: Config

    @property
    def pair_sets(self) -> list[PairSet]:
        """The distinct sets of pairs that the tasks use."""
        asked = [pairs for task in self.tasks.values() for pairs in task.asks()]
        return list({pairs.name: pairs for pairs in asked}.values())

    def whole_networks(self) -> list[TestSet]:
        """Return the test sets for which a task uses all pairs of the test proteins."""
        asked = {pairs.name for pairs in self.pair_sets if pairs.pairs is None}
        # The file of a network that no task uses may be missing, so this does not read networks.
        return [each for each in self.sets if each.network_name in asked]

    def proteins(self) -> set[str]:
        """Return the proteins of all pairs that the tasks use."""
        return set().union(*(pairs.proteins for pairs in self.pair_sets))

    def needed_pairs(self) -> PairTable:
        """Return all pairs that the tasks use, without repeats and with the label 0."""
        names = tuple(sorted(self.proteins()))
        keys = []
        for pairs in self.pair_sets:
            first, second = places_of(pairs.proteins, names)[pairs.rows()].T
            keys.append(pair_keys(first, second, len(names)))
        rows = np.stack(np.divmod(np.unique(np.concatenate(keys)), max(len(names), 1)), axis=1)
        return PairTable(names, rows, np.zeros(len(rows), dtype=np.int8))

    def describe(self) -> dict[str, object]:
        """Return descriptions of the test data and tasks, as fields of the event `data_ready`."""
        described: dict[str, object] = {"strategy": self.sets[0].benchmark.strategy}
        parts: list[TestSet | Task] = [*self.sets, *self.tasks.values()]
        for part in parts:
            described |= part.describe()
        return described | self.sets[0].digests()

    def sequences(self) -> dict[str, str]:
        """Return all protein sequences of the test sets and the tasks, by protein id.

        Raises:
            UserError: A protein has different sequences in two files.
        """
        sources = {test_set.species: test_set.benchmark.sequences() for test_set in self.sets}
        sources |= {f"the {name}": task.sequences() for name, task in self.tasks.items()}
        joined: dict[str, str] = {}
        for source, sequences in sources.items():
            for protein in joined.keys() & sequences.keys():
                if joined[protein] != sequences[protein]:
                    first = next(name for name in sources if protein in sources[name])
                    raise UserError(
                        f"the protein {protein} has different sequences in {first} and in {source};"
                        " correct one of the files, because predictions identify proteins by id"
                    )
            joined |= sequences
        return joined


def open_test_side(
    config: Config,
    accelerator: Accelerator | OneProcess | None = None,
    trained_on: TrainedOn | None = None,
) -> TestSide:
    """Read the data of the configured tasks, after rank 0 has provided any missing files.

    Args:
        config: The configuration.
        accelerator: The processes; by default, one.
        trained_on: What the evaluated model was trained on, if it is known.

    Raises:
        UserError: A file is missing or damaged, or data do not match the test proteins.
    """
    own, evaluate = config.data.benchmark, config.evaluate
    # In the registry's order, so that files and notes do not depend on the configured order.
    tasks = {name: TASKS.get(name) for name in TASKS.names() if name in evaluate.tasks}
    files = [file for task in tasks.values() for file in task.files]
    others, ranks = evaluate.cross_species, accelerator or OneProcess()
    prepare_benchmark(config.data, config.run.seed, ranks, others, functional=files)
    species = dict.fromkeys((own.species, *others))
    settings = [own.model_copy(update={"species": name}) for name in species]
    sets = tuple(TestSet(open_benchmark(each), trained_on) for each in settings)
    return TestSide(sets, {name: task(sets, config) for name, task in tasks.items()}, config)
