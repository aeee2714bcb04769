"""The synthetic benchmark: generated when it is first needed, then read like PRING."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config_data import BenchmarkConfig
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import Pring


class Demo(Pring):
    """The synthetic benchmark, in PRING's layout."""

    @classmethod
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate the benchmark under `root_dir`, unless it exists."""
        # The generator trains a language model: torch takes seconds to import.
        from common.data.benchmarks.demo.generate import ensure_demo

        ensure_demo(Path(settings.root_dir), seed)
