"""Defines the synthetic demo benchmark: generated when first needed, then read like PRING."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config_data import BenchmarkConfig
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import Pring


class Demo(Pring):
    """The synthetic demo benchmark, stored in PRING's layout."""

    @classmethod
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Generate the benchmark under `root_dir`, unless it already exists."""
        # The generator trains a language model and imports torch, which takes seconds.
        from common.data.benchmarks.demo.generate import ensure_demo

        ensure_demo(Path(settings.root_dir), seed)
