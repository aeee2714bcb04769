"""The synthetic benchmark: generated on the spot, then read as PRING is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config_data import BenchmarkConfig
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import Pring


class Demo(Pring):
    """The synthetic benchmark, laid out as PRING is."""

    @classmethod
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate it under `root_dir`, unless it is there."""
        # The generator trains a language model: torch takes seconds to import.
        from common.data.benchmarks.demo.generate import ensure_demo

        ensure_demo(Path(settings.root_dir), seed)
