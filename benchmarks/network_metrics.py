"""Measure the time of the network metrics on reference cases and on growing networks.

    python -m benchmarks.network_metrics --pring DIR --reference DIR --output FILE.json

`--pring` holds the species folders of the PRING benchmark (yeast, ecoli, human), `--reference` the
reference metrics with their prediction files. Each case is read and computed `--repeats` times and
the fastest counts, in seconds of this process's CPU time on one BLAS thread (wall time beside it).
The synthetic cases double the number of node sets, then their size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.workload import Row, print_table, take_time
from common.data.benchmarks.pickles import load_graph, load_node_sets
from common.data.tables.pairs import read_pairs
from common.evaluation.intervals import Resamples, ScoredPairs
from common.evaluation.networks import Network, one_blas_thread
from common.evaluation.prediction_file import read_predictions, write_predictions
from common.evaluation.tasks.topology import NodeSets, topology
from common.files import write_atomically

CASES = ("yeast_seed1_BFS", "ecoli_seed2_BFS", "human_seed3_BFS")
SET_COUNTS = (25, 50, 100, 200)
SET_SIZES = (50, 100, 200, 400)
PROTEINS, DENSITY = 2_000, 0.02  # of the synthetic networks, about those of the human test graph

Result = TypeVar("Result")


def fastest(work: Callable[[], Result], repeats: int) -> tuple[Result, str]:
    """Repeat some work; return its result and the least CPU (and wall) seconds."""
    results: list[Result] = []
    taken = [take_time(lambda: results.append(work())) for _ in range(repeats)]
    return results[-1], f"{min(t.cpu for t in taken):.2f} ({min(t.wall for t in taken):.2f})"


def row(case: str, reading: str, computing: str) -> Row:
    """Make one row of the report, in seconds of CPU (wall)."""
    return {"case": case, "reading": reading, "computing": computing}


def read_case(pring: Path, reference: Path) -> tuple[Network, Network, NodeSets]:
    """Read the predicted network, the true one and the node sets of a reference case."""
    figures = json.loads(reference.read_text())
    species, strategy = figures["species"], figures["strategy"]
    folder = pring / species
    predicted = read_predictions(reference.with_name(figures["predicted_edges"])).edges()
    true = Network.from_graph(load_graph(folder / f"{species}_test_graph.pkl"))
    return predicted, true, load_node_sets(folder / f"{species}_{strategy}_sampled_nodes.pkl")


def time_reference(pring: Path, reference: Path, repeats: int) -> Row:
    """Time reading and computing one of the benchmark's cases: ten sizes of 50 node sets."""
    case, reading = fastest(lambda: read_case(pring, reference), repeats)
    _, computing = fastest(lambda: topology(*case), repeats)
    return row(f"{reference.stem}, 500 node sets", reading, computing)


def random_network(rng: np.random.Generator) -> Network:
    """Draw a network without structure; the cost does not depend on which pairs interact."""
    pairs = rng.integers(0, PROTEINS, (int(PROTEINS**2 / 2 * DENSITY), 2))
    return Network.from_indices(tuple(f"P{i:05d}" for i in range(PROTEINS)), pairs)


def time_synthetic(count: int, size: int, repeats: int) -> Row:
    """Time the metrics on `count` random node sets of one size."""
    rng = np.random.default_rng(47)
    predicted, true = random_network(rng), random_network(rng)
    sets = {size: [rng.choice(true.nodes, size, replace=False).tolist() for _ in range(count)]}
    _, computing = fastest(lambda: topology(predicted, true, sets), repeats)
    return row(f"synthetic, {count} node sets of {size}", "", computing)


def time_intervals(pring: Path, repeats: int) -> Row:
    """Time reading the human test pairs and computing metrics on 1,000 resamples of proteins."""
    with tempfile.TemporaryDirectory() as cache:
        path = pring / "human" / "human_test_ppi.txt"
        table, reading = fastest(lambda: read_pairs(path, cache), repeats)
    scores = np.random.default_rng(47).normal(table.labels, 2)
    scored = ScoredPairs(table.pairs, table.labels, scores, threshold=0.5)
    _, computing = fastest(lambda: Resamples.draw(table, 1_000, 47).measure(scored), repeats)
    return row(f"{len(table):,} human test pairs, 1,000 resamples", reading, computing)


def time_prediction_files(folder: Path, repeats: int) -> list[Row]:
    """Time reading a score for every pair of the synthetic network's proteins, two million lines.

    Three cases: the file as it is written; a file with one space too many, which makes it
    irregular; and tasks that need one protein in five.
    """
    packed, stray = folder / "all_pairs.txt.gz", folder / "stray_space.txt"
    pairs = np.stack(np.triu_indices(PROTEINS), axis=1)
    names = [f"P{i:05d}" for i in range(PROTEINS)]
    try:
        write_predictions(packed, names, pairs, np.random.default_rng(47).random(len(pairs)))
        stray.write_bytes(gzip.decompress(packed.read_bytes()).replace(b"\t", b" \t", 1))
        predictions, reading = fastest(lambda: read_predictions(packed), repeats)
        _, stray_reading = fastest(lambda: read_predictions(stray), repeats)
        few, few_reading = fastest(lambda: read_predictions(packed, set(names[::5])), repeats)
    finally:
        packed.unlink(missing_ok=True)
        stray.unlink(missing_ok=True)
    _, computing = fastest(predictions.edges, repeats)
    _, few_computing = fastest(few.edges, repeats)
    return [
        row(f"prediction file, {len(pairs):,} lines, gzip; its network", reading, computing),
        row("the same, not packed, one space too many", stray_reading, computing),
        row("the same, one protein in five asked for", few_reading, few_computing),
    ]


def main() -> None:
    """Time everything, print the table and write the rows as JSON."""
    parser = argparse.ArgumentParser(description="Time the network metrics.")
    parser.add_argument("--pring", type=Path, required=True, help="folder of the species folders")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the references")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts")
    arguments = parser.parse_args()
    repeats = arguments.repeats
    references = [arguments.reference / f"{case}.json" for case in CASES]
    with one_blas_thread():
        rows = [time_reference(arguments.pring, path, repeats) for path in references]
        rows.append(time_intervals(arguments.pring, repeats))
        rows += [time_synthetic(count, 100, repeats) for count in SET_COUNTS]
        rows += [time_synthetic(50, size, repeats) for size in SET_SIZES]
        rows += time_prediction_files(arguments.output.parent, repeats)
    print_table(rows)
    write_atomically(arguments.output, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
