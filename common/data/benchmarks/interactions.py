"""A benchmark of the user's own interactions: prepared once, then read like PRING."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config_data import DataConfig
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import Pring


class OwnInteractions(Pring):
    """The user's own interactions, in PRING's nested layout."""

    # Only given splits can lack a file.
    remedy = "name one in data_config.interactions.splits, or do without the stage that needs it"

    @classmethod
    def prepare(
        cls,
        data: DataConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Prepare the benchmark from `data_config.interactions`, unless it exists."""
        # Evaluation on a prepared benchmark does not need this import.
        from common.data.preparation import ensure_prepared

        # Runs with several seeds share one split. Otherwise a model would be judged on a split
        # whose test proteins it was trained on.
        benchmark, own = data.benchmark, data.interactions
        ensure_prepared(Path(benchmark.root_dir), benchmark.species, own, own.seed)
