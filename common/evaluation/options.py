"""The options of `evaluate.py`, besides those that all scripts have."""

from __future__ import annotations

import argparse
import json

from common.command_line import given_path
from common.registry import BASELINES, TASKS, WRITERS

FILES = {
    "predictions": "judge this file instead of a model; its lines are 'protein_a protein_b"
    " score_or_label', or 'protein_a protein_b label p_negative p_positive'; .gz is unpacked",
    "output": "the file to write; its suffix chooses the format:"
    f" {', '.join(f'.{name}' for name in WRITERS.names())}; with --compare, a .csv file, or a"
    " folder for compare.csv",
    "pairs": "score these pairs, lines 'protein_a protein_b'; with labels 0 and 1 in a third column"
    " also compute metrics; without --pairs, --query and --bipartite, all pairs are scored",
    "plot": "also draw the network (up to 300 proteins) as this PNG file",
}
LIMITS = {
    "top-k": (int, "N", "write only the N best pairs of each query protein (without queries, of"
              " each protein of the first FASTA; with --pairs, the N best of all)"),
    "threshold": (float, "T", "write only pairs of at least this probability; all count as"
                  " interactions"),
    "share": (float, "S", "the share of all pairs that the prefilter leaves to be scored (0.01)"),
    "density": (float, "D", "write only the best pairs, this share of all; all count as"
                " interactions"),
}  # fmt: skip
SWITCHES = {
    "bipartite": "score all proteins of the first FASTA with all of the second",
    "skip-unknown": "leave out pairs and queries of proteins that have no sequence",
    "self-pairs": "pair each protein with itself as well",
}


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict`, besides those of `FILES`."""
    parser.add_argument(
        "--fasta",
        metavar="FILE",
        type=given_path,
        action="append",
        help="predict pairs of these proteins; needs no config and no benchmark; twice with"
        " --bipartite",
    )
    parser.add_argument(
        "--query",
        metavar="ID[,ID...]|FILE",
        type=given_path,
        help="score these proteins of the FASTA (or of a file of ids) with all others",
    )
    parser.add_argument(
        "--prefilter",
        metavar="DIR",
        type=given_path,
        help="a fast model (factorised) that ranks all pairs; only the best are scored and written",
    )
    for name, (kind, metavar, meaning) in LIMITS.items():
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=meaning)
    for name, meaning in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of judging, of predicting and of comparing."""
    parser.add_argument("--tasks", nargs="+", choices=TASKS.names(), help="replace evaluate.tasks")
    parser.add_argument(
        "--with-baselines",
        action="store_true",
        help="compare with the baselines of evaluate.baselines or, if it is empty, with all:"
        f" {', '.join(BASELINES.names())}",
    )
    parser.add_argument(
        "--push-to-hub",
        metavar="USER/REPO",
        type=given_path,
        help="after judging a model, push its checkpoint and card to the Hugging Face hub, with the"
        " token in HF_TOKEN",
    )
    parser.add_argument(
        "--public", action="store_true", help="let everybody read a model that --push-to-hub makes"
    )
    for name, meaning in FILES.items():
        parser.add_argument(f"--{name}", metavar="FILE", type=given_path, help=meaning)
    _add_predict_options(parser)
    parser.add_argument(
        "--compare",
        metavar="RUN_DIR",
        type=given_path,
        nargs="+",
        help="put runs of this script beside each other in one table; a folder such as runs/ stands"
        " for all runs below it",
    )


def prefilter_of(arguments: argparse.Namespace) -> list[str]:
    """Return the options of the prefilter as `--set` takes them."""
    given = {"checkpoint": arguments.prefilter, "share": arguments.share}
    return [
        # JSON quotes what YAML would read as something else than a string.
        f"evaluate.scoring.prefilter.{key}={json.dumps(value)}"
        for key, value in given.items()
        if value is not None
    ]
