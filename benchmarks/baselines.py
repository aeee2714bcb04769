"""Measure how well the baselines predict the pairs of a benchmark, and their time and memory.

    python -m benchmarks.baselines --config CONFIG [--set KEY=VALUE ...]

Prints, for every baseline that learns, AUROC / AUPRC on the validation and on the test pairs, and
the CPU seconds (with those of MMseqs2), wall seconds and peak memory (without MMseqs2's) of
learning and of scoring these pairs and every pair that the configured tasks need. Nothing is
taken from the cache. Each baseline runs in a separate process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.workload import Row, peak_memory, print_table
from common.config_file import load_config
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable, check_sequences
from common.evaluation.baselines.composition import score_composition
from common.evaluation.baselines.degree import score_degrees
from common.evaluation.baselines.homology import score_homology
from common.evaluation.baselines.training import LearnedScores
from common.evaluation.test_side import open_test_side

BASELINES: dict[str, LearnedScores] = {
    "degree": lambda train, table, _: score_degrees(train, table),
    "homology": score_homology,
    "homology by k-mers": partial(score_homology, method="k-mers"),
    "composition": partial(score_composition, seed=47),
}


def measure(name: str, config_file: str, overrides: Sequence[str]) -> Row:
    """Measure one baseline, and return its row of the table."""
    side = open_test_side(load_config(config_file, "evaluate", overrides))
    benchmark, sequences = side.sets[0].benchmark, side.sequences()

    def known(table: PairTable) -> PairTable:
        return check_sequences(table, sequences, "drop", "pairs")[0]

    train = known(benchmark.pairs("train"))
    parts = [known(table) for table in (benchmark.pairs("val"), benchmark.pairs("test"))]
    parts.append(known(side.needed_pairs()))
    started, before = time.monotonic(), os.times()
    scores = BASELINES[name](train, join(parts), sequences)
    after = os.times()
    found = np.split(scores, np.cumsum([len(part) for part in parts])[:-1])
    row: Row = {"baseline": name}
    for split, part, ranked in zip(("validation", "test"), parts, found, strict=False):
        values = [rank(part.labels, ranked) for rank in (roc_auc_score, average_precision_score)]
        row[split] = " / ".join(f"{value:.3f}" for value in values)
    cpu = sum(b - a for a, b in zip(before[:4], after[:4], strict=True))
    return row | {
        "pairs": len(scores),
        "CPU seconds": round(cpu, 1),
        "seconds": round(time.monotonic() - started, 1),
        "GiB": round(peak_memory(), 2),
    }


def join(tables: Sequence[PairTable]) -> PairTable:
    """Join the pairs of all tables, one after the other."""
    ids = sorted({name for table in tables for name in table.proteins})
    pairs = np.concatenate([places_of(table.proteins, ids)[table.pairs] for table in tables])
    return PairTable(tuple(ids), pairs, np.concatenate([table.labels for table in tables]))


def main() -> None:
    """Measure each baseline in a separate process, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", dest="overrides", nargs="+", default=[])
    arguments = parser.parse_args()
    for name in BASELINES:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, name, arguments.config, arguments.overrides).result()
        print_table([row])


if __name__ == "__main__":
    main()
