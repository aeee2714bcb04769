"""The reference page of the files that a run writes, checked against the names in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from scripts.reference.pages import ROOT, code, page, sources, table

INTRODUCTION = (
    "`{stage}` is `pretrain`, `finetune` or `evaluate`; `{run_id}` is the configured name of the"
    " run, or the time of its start. Rank 0 alone writes files. They are written under another name"
    " and renamed once they are complete, so an interrupted run leaves no half-written file."
)
FOLDERS = {
    "`{output_dir}/logs/{model}/{stage}/{run_id}/`": {
        "log.log": "One line per event (see [Log events](events.md)).",
        "log.rank*.log": "The log of another rank, with `RELIC_LOG_ALL_RANKS=1`.",
        "config.yaml": "The resolved configuration; a run exists once this file is written.",
        "audit.json": "All findings of the comparison of the splits.",
        "training_step.csv": "Training: one row per epoch with time, losses, metrics and lr.",
        "training_curves.png": "Training: the columns of `training_step.csv` as curves.",
        "validation.csv": "Training with `protein_disjoint` validation: the metrics of each set.",
        "evaluate.csv": "Task `pairs`: one row of metrics for each split or class of pairs.",
        "evaluate_intervals.json": "Task `pairs`: the 95 % interval of every metric.",
        "predictions.txt.gz": "The score of every pair that a requested task uses.",
        "calibration.json": "Measures of the probabilities before and after calibration.",
        "network.json": "The number of called pairs, and the densities of the networks.",
        "topology*.csv": "Task `topology`: one row per size of node sets, and a summary.",
        "topology_ratios*.csv": "Task `topology`: discrepancies relative to the true network's.",
        "topology*.png": "Task `topology`: the metrics against the size of node sets.",
        "degrees.png": "The degrees of the predicted and of the true network.",
        "functional.json": "Tasks `complexes`, `go_modules` and `essential_proteins`.",
        "essential_proteins.png": "Task `essential_proteins`: the centralities of both groups.",
        "baselines.csv": "The metrics of the baselines beside those of the model.",
        "ranking.png": "Task `pairs`: the ROC curve, and precision against recall.",
        "calibration.png": "Task `pairs`: the fraction of interacting pairs by score.",
        "scores.png": "Task `pairs`: the scores of interacting and of other pairs.",
        "report.html": "All results of the run on one page, unless `evaluate.report` is false.",
    },
    "The current directory, or the folder of `--output` with `--compare`": {
        "compare.csv": "The metrics of the compared runs, one row for each run.",
        "compare.html": "The same table as a page, with the runs' ROC and precision-recall curves.",
    },
    "`{output_dir}/models/{model}/{stage}/{run_id}/best_model/` (also `epoch_*`)": {
        "config.json": "The sizes of the model, for `from_pretrained`.",
        "model.safetensors": "The weights.",
        "config.yaml": "The resolved configuration of the training.",
        "decision.json": "Threshold, calibration, and the validation metrics of the epoch.",
        "training_pairs.npy": "Hashes of the pairs that the model was trained on.",
        "training_proteins.npy": "Hashes of the proteins of these pairs.",
        "README.md": "The model card, to which an evaluation adds its results.",
    },
    "`{output_dir}/models/{model}/{stage}/{run_id}/last_state/`": {
        "progress.json": "The progress of training; accelerate writes all other files here.",
    },
    "`data_config.benchmark.root_dir`, if prepared from your own interactions": {
        "README.md": "What the directory contains, and from which files it was prepared.",
        "preparation.json": "The hashes of the input files, the settings, and all counts.",
        "proteins_without_sequence.txt": "The proteins that the FASTA file does not contain.",
    },
    "`data_config.benchmark.root_dir`, if downloaded": {
        "download.json": "The addresses and hashes of the downloaded files.",
    },
    "`data_config.embeddings.cache_dir`": {
        "model_hashes.json": "The hashes of the language models' files, by their names and times.",
        "data-*.arrow": "Embeddings; the name contains a checksum of the content.",
    },
}
# Names of files that are only read, parts of names, and the files of a benchmark's layout.
NOT_LISTED = ("selected_*.txt", "complex_*", "test_go_terms.pkl", "nodes.tsv", "edges.tsv",
              "*.index.json", "log*.log", "*_train_graph.pkl")  # fmt: skip
WRITING = re.compile(r"common/(run|training|inference|evaluation|data/(benchmark_audit|prepar))")
SUFFIXES = "arrow|csv|gz|html|json|log|md|npy|pkl|png|safetensors|tsv|txt|yaml"
FILE_NAME = re.compile(rf"[\w*][\w*.-]*\.({SUFFIXES})")


def artifacts_page() -> str:
    """Return the page of artifacts, with one table for each directory.

    Raises:
        ValueError: The code names a file that is not listed here, or does not name a listed file.
    """
    listed = [name for files in FOLDERS.values() for name in files]
    named = dict(_file_names())
    unlisted = [n for n, writes in named.items() if writes and not _in(n, (*listed, *NOT_LISTED))]
    unwritten = [name for name in listed if name not in named]
    if unlisted or unwritten:
        raise ValueError(
            f"FOLDERS in {__file__} must list the files that the code writes; not listed:"
            f" {unlisted}, not in the code: {unwritten}"
        )
    parts = []
    for folder, files in FOLDERS.items():
        rows = [(code(name), meaning) for name, meaning in files.items()]
        parts += [f"## {folder}", table(("file", "content"), rows)]
    return page("Artifacts", INTRODUCTION, *parts)


def _in(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _file_names() -> Iterator[tuple[str, bool]]:
    """Yield the file names in the code, with `*` for variable parts, and if files are written."""
    names = [
        (text, bool(WRITING.match(str(path.relative_to(ROOT)))))
        for path, tree in sources()
        for node in ast.walk(tree)
        if FILE_NAME.fullmatch(text := _text(node))
    ]
    # A name that is written and read counts as written.
    yield from sorted(names)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "*" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""
