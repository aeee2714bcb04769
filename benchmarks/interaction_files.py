"""Time reading a very large interaction file, generated in the form of STRING's human network.

    python -m benchmarks.interaction_files [--lines 13700000] [--packed] [--min-score 400]

Prints CPU seconds, lines a second and the peak of memory of reading the file (in a process of its
own) and of finding its proteins in a FASTA with Ensembl's headers. The file has the size and the
form of `9606.protein.links.v12.0.txt`: 19,622 proteins, every pair in both directions.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common.data.tables.interactions.base import ReadOptions, format_counts
from common.data.tables.interactions.reading import read_interactions
from common.data.tables.meeting_ids import meet

PROTEINS = 19_622
LINES = 13_700_000
LINES_AT_A_TIME = 500_000


def write_network(path: Path, lines: int, packed: bool, seed: int = 47) -> None:
    """Write a file like STRING's: sorted, each pair in both directions, scores from 150 to 999."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(PROTEINS, size=(lines // 2, 2), dtype=np.int32)
    scores = np.minimum(999, 150 + rng.exponential(120, lines // 2)).astype(np.int16)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    order = np.argsort(both[:, 0], kind="stable")
    both, scores = both[order], np.concatenate([scores, scores])[order]
    names = [f"9606.ENSP{number:011d}" for number in range(233, 233 + 7 * PROTEINS, 7)]
    with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
        file.write(b"protein1 protein2 combined_score\n")
        for start in range(0, len(both), LINES_AT_A_TIME):
            part = slice(start, start + LINES_AT_A_TIME)
            rows = zip(both[part].tolist(), scores[part].tolist(), strict=True)
            text = "".join(f"{names[a]} {names[b]} {score}\n" for (a, b), score in rows)
            file.write(text.encode())


def measure(path: Path, min_score: float | None) -> None:
    """Read the file and find its proteins, in this process; print what it took."""
    sequences = {f"ENSP{n:011d}.2": "M" for n in range(233, 233 + 7 * PROTEINS, 7)}
    begin, wall = time.process_time(), time.perf_counter()
    interactions = read_interactions([path], options=ReadOptions(min_score, taxid=9606))
    read, read_wall = time.process_time(), time.perf_counter()
    met, _ = meet(interactions, sequences)
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = interactions.record()["lines read"]
    print(f"{path.name} ({path.stat().st_size / 2**20:.0f} MiB), min_score {min_score}:")
    print(f"  read   {read - begin:6.1f} s CPU, {read_wall - wall:6.1f} s, {lines} lines")
    print(f"  meet   {done - read:6.1f} s CPU, {len(met)} interactions")
    print(f"  peak   {peak:6.2f} GiB")
    print(*(f"  {line}" for line in format_counts(met)), sep="\n")


def main() -> None:
    """Generate the file and measure in a fresh process, or measure an existing file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=LINES, help="of the generated file")
    parser.add_argument("--packed", action="store_true", help="generate a gzip file")
    parser.add_argument("--min-score", type=float, help="drop lower scores (150 to 999)")
    parser.add_argument("--file", type=Path, help="measure this file, in this process")
    args = parser.parse_args()
    if args.file:
        measure(args.file, args.min_score)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"9606.protein.links.txt{'.gz' if args.packed else ''}"
        write_network(path, args.lines, args.packed)
        command = [sys.executable, "-m", "benchmarks.interaction_files", "--file", str(path)]
        command += ["--min-score", str(args.min_score)] if args.min_score is not None else []
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
