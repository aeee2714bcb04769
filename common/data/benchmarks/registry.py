"""Opens the configured benchmark, which is generated or fetched first if it is missing.

Light on purpose: torch is imported only to generate a benchmark, as evaluating a file starts here
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.config_data import BenchmarkConfig, DataConfig
from common.data.benchmarks.base import Benchmark, Split
from common.registry import BENCHMARKS
from common.run import OneProcess, on_main_process

if TYPE_CHECKING:
    from accelerate import Accelerator


def open_benchmark(settings: BenchmarkConfig) -> Benchmark:
    """Open the configured species and strategy of the configured benchmark.

    Raises:
        UserError: The benchmark does not exist on the disk.
    """
    benchmark: Benchmark = BENCHMARKS.get(settings.name)(settings)
    return benchmark


def prepare_benchmark(
    settings: DataConfig,
    seed: int,
    accelerator: Accelerator | OneProcess,
    others: Sequence[str] = (),
    splits: Sequence[Split] = ("test",),
    functional: Sequence[str] = (),
) -> Benchmark:
    """Open the benchmark after rank 0 has generated or fetched what is missing.

    Args:
        settings: The data section of the configuration.
        seed: The seed for what is generated.
        accelerator: Says which process this is.
        others: Further species, of which the test side is provided.
        splits: The splits of the configured species that will be read.
        functional: The files of `functional_dir` that will be read.

    Raises:
        UserError: The benchmark does not exist and may not be fetched, or its files are wrong.
    """
    own = settings.benchmark

    def provide() -> None:
        benchmark = BENCHMARKS.get(own.name)
        benchmark.prepare(settings, seed, splits, functional)
        for species in others:
            other = own.model_copy(update={"species": species})
            benchmark.provide(other, seed, ("test",))
            open_benchmark(other)

    on_main_process(accelerator, provide)
    return open_benchmark(own)
