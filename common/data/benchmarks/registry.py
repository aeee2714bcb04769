"""The benchmark on disk: where the configuration says so, generated or fetched first.

Light on purpose (no torch, unless there is something to generate): judging a file starts here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.config import DataConfig
from common.data.benchmarks.pring import Benchmark, open_benchmark
from common.run import OneProcess, on_main_process

if TYPE_CHECKING:
    from accelerate import Accelerator


def prepare_benchmark(
    settings: DataConfig,
    seed: int,
    accelerator: Accelerator | OneProcess,
    others: Sequence[str] = (),
) -> Benchmark:
    """Open the benchmark; rank 0 generates or fetches it first, other species of transfer too.

    Raises:
        UserError: It is not there and may not be fetched, or is not what it should be.
    """
    benchmark = settings.benchmark

    def provide() -> None:
        if benchmark.name == "demo":
            from common.data.benchmarks.demo.generate import (
                ensure_demo,  # generating is a rare thing
            )

            ensure_demo(Path(benchmark.root_dir), seed)
        for species in dict.fromkeys((benchmark.species, *others)):
            open_benchmark(benchmark.model_copy(update={"species": species}))

    on_main_process(accelerator, provide)
    return open_benchmark(benchmark.model_copy(update={"download": False}))
