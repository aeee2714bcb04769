"""A judgement written out: CSVs, JSON and pictures into a directory, tables for the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from common.csv_log import (
    EVALUATION_HEADER,
    TOPOLOGY_HEADER,
    write_evaluation_csv,
    write_topology_csv,
)
from common.evaluation.judgement import Judgement
from common.evaluation.plots import plot_centralities, plot_degrees, plot_topology
from common.evaluation.report import format_table
from common.files import write_atomically


def write_results(judgement: Judgement, directory: Path) -> list[Path]:
    """Write figures and pictures of them; returns the files of figures, in order.

    `topology.csv` is of the configured species and of the first strategy looked at: the configured
    one, unless `evaluate.strategies` leaves it out. Others are `topology.{species}.{strategy}.csv`.
    """
    return list(_write_each(judgement, directory))


def _write_each(judgement: Judgement, directory: Path) -> Iterator[Path]:
    if judgement.pairs:
        path = directory / "evaluate.csv"
        write_evaluation_csv(path, judgement.pairs)
        yield path
    for place, ((species, strategy), rows) in enumerate(judgement.topology.items()):
        name = "topology" if place == 0 else f"topology.{species}.{strategy}"
        path = directory / f"{name}.csv"
        write_topology_csv(path, [vars(row) for row in rows])
        yield path
        plot_topology(rows, f"{species} {strategy}", path.with_suffix(".png"))
    if judgement.functional:
        path = directory / "functional.json"
        write_atomically(path, json.dumps(judgement.functional, indent=1) + "\n")
        yield path
    if judgement.degrees is not None:
        plot_degrees(*judgement.degrees, judgement.species, directory / "degrees.png")
    if judgement.essential is not None:
        path = directory / "essential_proteins.png"
        plot_centralities(judgement.essential, judgement.species, path)


def format_results(judgement: Judgement) -> str:
    """The figures as tables, one after the other."""
    tables = []
    if judgement.pairs:
        rows = [{"split": split, **figures} for split, figures in judgement.pairs.items()]
        tables.append(format_table(EVALUATION_HEADER, rows))
    if judgement.topology:
        header = ("species", "strategy", *TOPOLOGY_HEADER[1:])
        summaries = [
            {"species": species, "strategy": strategy, **vars(rows[-1]), "node_size": "mean"}
            for (species, strategy), rows in judgement.topology.items()
        ]
        tables.append(format_table(header, summaries))
    for task, figures in judgement.functional.items():
        numbers = {name: value for name, value in figures.items() if not isinstance(value, str)}
        tables.append(format_table(("task", *numbers), [{"task": task, **numbers}]))
    return "\n\n".join(tables)
