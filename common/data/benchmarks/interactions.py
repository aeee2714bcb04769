"""Defines the benchmark of the user's own interactions: prepared once, then read like PRING."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config_data import DataConfig
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import Pring


class OwnInteractions(Pring):
    """A benchmark of the user's own interactions, stored in PRING's nested layout."""

    # Only a benchmark of splits that the user provides can lack a file.
    remedy = (
        "set the split's file in data_config.interactions.splits, or leave out the stage that"
        " needs this split"
    )

    @classmethod
    def prepare(
        cls,
        data: DataConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Prepare the benchmark from `data_config.interactions`, unless it already exists."""
        # Evaluation on a prepared benchmark does not need this import.
        from common.data.preparation import ensure_prepared

        # Runs with several seeds share one split. Otherwise a model could be evaluated on test
        # proteins that it was trained on.
        benchmark, own = data.benchmark, data.interactions
        ensure_prepared(Path(benchmark.root_dir), benchmark.species, own, own.seed)
