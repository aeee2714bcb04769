"""Define the command-line options that only `evaluate.py` has."""

from __future__ import annotations

import argparse
import json

from common.command_line import given_path
from common.registry import BASELINES, TASKS, WRITERS

FILES = {
    "predictions": "evaluate this prediction file instead of a model; the lines are 'protein_a"
    " protein_b score_or_label' or 'protein_a protein_b label p_negative p_positive'; the file may"
    " be compressed (.gz)",
    "output": "the file to write; the suffix determines the format:"
    f" {', '.join(f'.{name}' for name in WRITERS.names())}; with --compare, a .csv file or a"
    " folder for compare.csv",
    "pairs": "score only the pairs in this file, with lines 'protein_a protein_b'; if a third"
    " column has labels 0 and 1, also compute metrics",
    "plot": "also draw the proteins that have a partner (up to 300) as this PNG file",
}
LIMITS = {
    "top-k": (int, "N", "write only the N best pairs of each query protein (without queries, of"
              " each protein in the first FASTA file; with --pairs, the N best of all pairs)"),
    "threshold": (float, "T", "write only pairs with at least this probability, and count all"
                  " written pairs as interactions"),
    "share": (float, "S", "the fraction of all pairs that the prefilter keeps for scoring (0.01)"),
    "density": (float, "D", "write only this fraction of all pairs, the most probable pairs, and"
                " count all written pairs as interactions"),
}  # fmt: skip
SWITCHES = {
    "bipartite": "pair each protein in the first FASTA file with each protein in the second file",
    "skip-unknown": "leave out listed pairs and query proteins that have no sequence",
    "self-pairs": "also pair each protein with itself",
}


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for predicting networks, except the options in `FILES`."""
    parser.add_argument(
        "--fasta",
        metavar="FILE",
        type=given_path,
        action="append",
        help="predict interactions of the proteins in this FASTA file, without a configuration or"
        " a benchmark (all pairs, unless --pairs, --query or --bipartite is given); give this"
        " option twice with --bipartite",
    )
    parser.add_argument(
        "--query",
        metavar="ID[,ID...]|FILE",
        type=given_path,
        help="score these proteins (ids, or a file of ids) with all proteins in the FASTA file",
    )
    parser.add_argument(
        "--prefilter",
        metavar="DIR",
        type=given_path,
        help="a fast model (factorised) that ranks all pairs, so that only the best pairs are"
        " scored and written",
    )
    for name, (kind, metavar, meaning) in LIMITS.items():
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=meaning)
    for name, meaning in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for evaluating, predicting and comparing runs to the parser."""
    parser.add_argument(
        "--tasks", nargs="+", choices=TASKS.names(), help="run these tasks, not evaluate.tasks"
    )
    parser.add_argument(
        "--with-baselines",
        action="store_true",
        help="compare with the baselines in evaluate.baselines or, if that list is empty, with all"
        f" baselines: {', '.join(BASELINES.names())}",
    )
    parser.add_argument(
        "--push-to-hub",
        metavar="USER/REPO",
        type=given_path,
        help="after evaluating a model, upload its checkpoint and model card to the Hugging Face"
        " Hub, with the token in HF_TOKEN",
    )
    parser.add_argument(
        "--public", action="store_true", help="make a repository public that --push-to-hub creates"
    )
    for name, meaning in FILES.items():
        parser.add_argument(f"--{name}", metavar="FILE", type=given_path, help=meaning)
    _add_predict_options(parser)
    parser.add_argument(
        "--compare",
        metavar="RUN_DIR",
        type=given_path,
        nargs="+",
        help="compare these runs of evaluate.py in one table; a folder such as runs/ stands for all"
        " runs below it",
    )


def prefilter_of(arguments: argparse.Namespace) -> list[str]:
    """Convert the options of the prefilter to the key=value form of `--set`."""
    given = {"checkpoint": arguments.prefilter, "share": arguments.share}
    return [
        # JSON quotes strings that YAML would otherwise read as another type.
        f"evaluate.scoring.prefilter.{key}={json.dumps(value)}"
        for key, value in given.items()
        if value is not None
    ]
