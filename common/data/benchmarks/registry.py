"""Opens the configured benchmark, after generating or downloading missing files.

This module does not import torch, which only generating a benchmark needs, so that evaluating a
prediction file starts quickly.
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
    """Open the configured benchmark for one species and one split strategy.

    Raises:
        UserError: The benchmark does not exist on disk.
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
    """Open the benchmark after the main process has generated or downloaded missing files.

    Args:
        settings: The data section of the configuration.
        seed: The seed of a generated benchmark.
        accelerator: The processes of the run.
        others: Further species, for which only the test files are provided.
        splits: The splits of the configured species that will be read.
        functional: The files of `functional_dir` that will be read.

    Raises:
        UserError: The benchmark does not exist and may not be downloaded, or a file is faulty.
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
