"""The audit of a run's benchmark: shown, saved, and enforced by `data_config.audit: strict`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from common.data.audit import audit_splits
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.registry import prepare_benchmark
from common.files import write_atomically
from common.run import Run, on_main_process, show

AUDIT_FILE = "audit.json"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def audit_benchmark(run: Run, fetched: Sequence[Split] = SPLITS) -> None:
    """Audit the splits of the configured benchmark before anything is embedded.

    Rank 0 writes `audit.json`, shows the table, and logs a warning for everything that changes the
    meaning of a test score. Splits without a file are left out.

    Args:
        run: The stage.
        fetched: The splits whose missing files are fetched or prepared first.

    Raises:
        UserError: `data_config.audit` is strict, and the splits share test pairs or proteins, list
            pairs with both labels, or have one class only.
    """
    data = run.config.data
    if data.audit != "off":
        seed = run.config.run.seed
        benchmark = prepare_benchmark(data, seed, run.accelerator, splits=fetched)
        on_main_process(run.accelerator, partial(_audit, run, benchmark))


def _audit(run: Run, benchmark: Benchmark) -> None:
    data, files = run.config.data, benchmark.files()
    # A benchmark that does not list its files has all splits.
    tables = {str(name): benchmark.pairs(name) for name in SPLITS if name in files or not files}
    if "train" not in tables:
        return
    audit = audit_splits(tables, benchmark.sequences(), data.max_sequence_length)
    path = run.log_dir / AUDIT_FILE
    write_atomically(path, json.dumps(audit.to_dict(), indent=1) + "\n")
    show(f"Audit of {benchmark.name} {benchmark.species} {benchmark.strategy}\n{audit.table()}")
    warnings = [found for found in audit.findings() if found.level != "info"]
    for found in warnings:
        run.warn("audit_warning", finding=found.name, says=found.sentence)
    run.event("audit_complete", warnings=len(warnings), file=path)
    if data.audit == "strict":
        audit.refuse()
