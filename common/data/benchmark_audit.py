"""Audits the benchmark of a run, shows and saves the result, and enforces `data_config.audit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from common.console import show
from common.data.audit import NEAR_IDENTICAL, audit_splits
from common.data.audit_facts import Audit, Count
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.registry import open_benchmark, prepare_benchmark
from common.data.pair_hashes import TrainedOn, count_hashed
from common.files import write_atomically
from common.run import Run, on_main_process

AUDIT_FILE = "audit.json"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def audit_benchmark(
    run: Run, fetched: Sequence[Split] = SPLITS, trained_on: TrainedOn | None = None
) -> None:
    """Audit the splits of the configured benchmark before any protein is embedded.

    The main process writes `audit.json`, shows the table, and logs a warning for everything that
    changes the meaning of a test score. Splits without a file are left out.

    Args:
        run: The run of a stage.
        fetched: The splits whose missing files are downloaded or prepared first.
        trained_on: Hashes of what the evaluated checkpoint was trained on. Its pairs are compared
            with the test pairs of the configured species and of `evaluate.cross_species`.

    Raises:
        UserError: `data_config.audit` is strict, and the splits share test pairs or proteins, list
            pairs with both labels, or have one class only, or the checkpoint was trained on test
            pairs.
    """
    data = run.config.data
    if data.audit != "off":
        seed, others = run.config.run.seed, run.config.evaluate.cross_species
        others = () if trained_on is None else others
        benchmark = prepare_benchmark(data, seed, run.accelerator, others, splits=fetched)
        settings = [data.benchmark.model_copy(update={"species": name}) for name in others]
        judged = [benchmark, *map(open_benchmark, settings)]
        on_main_process(run.accelerator, partial(_audit, run, judged, trained_on))


def _audit(run: Run, judged: Sequence[Benchmark], trained_on: TrainedOn | None) -> None:
    data, benchmark = run.config.data, judged[0]
    tables = {str(name): benchmark.pairs(name) for name in SPLITS if benchmark.has(name)}
    audit = Audit({}, {}, NEAR_IDENTICAL, "k-mers", data.cut_length)
    if "train" in tables:
        audit = audit_splits(tables, benchmark.sequences(), data.cut_length)
    if trained_on is not None:
        audit = replace(audit, trained_on=_count_trained_on(judged, trained_on))
    if audit.splits or audit.trained_on:
        _report(run, benchmark, audit)


def _count_trained_on(judged: Sequence[Benchmark], trained_on: TrainedOn) -> dict[str, Count]:
    """Count, for each species, the test pairs that are among the training pairs."""
    tested = [each for each in judged if each.has("test")]
    return {each.species: count_hashed(each.pairs("test"), trained_on.pairs) for each in tested}


def _report(run: Run, benchmark: Benchmark, audit: Audit) -> None:
    path = run.log_dir / AUDIT_FILE
    write_atomically(path, json.dumps(audit.to_dict(), indent=1) + "\n")
    if audit.splits:
        show(f"Audit of {benchmark.name} {benchmark.species} {benchmark.strategy}\n{audit.table()}")
    warnings = [found for found in audit.findings() if found.level != "info"]
    for found in warnings:
        run.warn("audit_warning", finding=found.name, says=found.sentence)
    run.event("audit_complete", warnings=len(warnings), file=path)
    if run.config.data.audit == "strict":
        audit.refuse()
