"""The reference page of log events, with their names, fields and meanings."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from scripts.reference.pages import code, page, sources, table

INTRODUCTION = (
    "Each line of `log.log` is `YYYY-MM-DD HH:MM:SS LEVEL event | key=value | …`; the level is"
    " `INFO`, `WARNING` or `ERROR`. The same lines appear on stderr, except `stage_failed`:"
    " the script prints the error itself when it ends. A field `…` stands for further fields whose"
    " names depend on the data or on the configuration."
)
EVENTS = {
    "audit_complete": "The splits have been compared; the file contains all findings.",
    "audit_warning": "A finding about the splits or the data that can make metrics misleading.",
    "baseline_judged": "A baseline has been evaluated.",
    "baseline_ready": "The model that `evaluate.baseline_checkpoint` names is loaded.",
    "benchmark_differs": "A model is finetuned on another benchmark than it was pretrained on.",
    "benchmark_waiting": "Another process prepares the same benchmark, and this process waits.",
    "best_saved": "The epoch is the best so far, and its model is saved.",
    "card_not_updated": "The checkpoint's model card cannot be written, so it lacks this result.",
    "composition_draws": "The baseline `composition` is fitted to a part of the training pairs.",
    "csv_written": "A file of results has been written.",
    "data_ready": "The pairs of the stage are read, and their proteins are embedded.",
    "device_resolved": "The device, the processes and the precision that `accelerate` chose.",
    "early_stop": "Training ends, because the monitored metric no longer improves.",
    "embedding_shard_rebuilt": "A damaged file of embeddings is computed again.",
    "embeddings_differ": "The checkpoint was trained on embeddings that were computed differently.",
    "embeddings_ready": "All requested proteins are embedded.",
    "embeddings_waiting": "Another run embeds the remaining proteins, and this run waits.",
    "epoch_complete": "An epoch has ended; the fields are the columns of `training_step.csv`.",
    "epoch_start": "An epoch begins.",
    "fewer_workers": "Shared memory has no room for all of the data loader's workers.",
    "file_fetched": "A file of the benchmark has been downloaded.",
    "held_out_proteins_seen": "The model was trained on proteins that this run holds out.",
    "interactions_prepared": "A benchmark has been prepared; the fields count pairs and proteins.",
    "interactions_read": "Interactions are being read: how many lines or pairs a step has counted.",
    "model_ready": "The model, or the file of predictions, is loaded.",
    "network_too_large_to_draw": "The network has too many proteins for `--plot`.",
    "nothing_to_resume": "`--resume` found a run without a saved state, which starts over.",
    "own_pairs_judged": "The metrics of your own labelled pairs.",
    "pairs_left_out": "Pairs without a sequence were left out, as `--skip-unknown` asks.",
    "pipeline_bootstrap": "A stage begins; the fields name the run and the versions of libraries.",
    "prediction_note": "An assumption of the evaluation, or a gap in a prediction file.",
    "prefiltered": "The fast model of `prefilter` has ranked all pairs; the best are scored.",
    "progress": "The progress of long work, logged at least once a minute.",
    "queries_left_out": "Queries without a sequence were left out, as `--skip-unknown` asks.",
    "scoring_resumed": "Scores of an interrupted run are used instead of being computed again.",
    "sequences_look_like_dna": "Sequences consist of A, C, G and T only, so they may be DNA.",
    "sequences_longer_than_trained_on": "The language model has never seen sequences this long.",
    "sequences_read": "A FASTA file has been read, and something in it was replaced.",
    "similar_grouped": "Similar sequences were grouped, so that a split keeps them together.",
    "stage_complete": "The stage has ended; its results are here.",
    "stage_failed": "The stage has ended with this error.",
    "stage_paused": "A signal stopped the stage after its work was saved.",
    "stage_start": "Training or evaluation begins.",
    "step": "A heartbeat of training.",
    "synthetic_model": "The model was trained on synthetic data and says nothing about biology.",
    "teacher_ready": "The model that `loss.teacher` names is loaded.",
    "training_pairs": "How many of your own pairs, or test pairs, are training pairs of the model.",
    "training_pairs_unknown": "The checkpoint does not list the pairs that it was trained on.",
}


def events_page() -> str:
    """Return the page of events.

    Raises:
        ValueError: An event has no meaning in `EVENTS`, or an event of `EVENTS` is never logged.
    """
    found: dict[str, dict[str, None]] = {}
    for name, fields in logged_events():
        found.setdefault(name, {}).update(dict.fromkeys(fields))
    if found.keys() != EVENTS.keys():
        odd = sorted(found.keys() ^ EVENTS.keys())
        raise ValueError(f"EVENTS in {__file__} must describe the logged events: {', '.join(odd)}")
    rows = [
        (code(name), ", ".join(map(code, sorted(fields, key="…".__eq__))), EVENTS[name])
        for name, fields in sorted(found.items())
    ]
    return page("Log events", INTRODUCTION, table(("event", "fields", "meaning"), rows))


def logged_events() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the fields of every call that logs an event."""
    functions = [
        node
        for _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _logs(node) and _is_text(node.args[:1]):
                fields = [name for word in node.keywords for name in _fields(word, function)]
                yield ast.literal_eval(node.args[0]), fields


def _logs(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    return name in ("event", "warn", "format_event")


def _is_text(arguments: list[ast.expr]) -> bool:
    return any(isinstance(a, ast.Constant) and isinstance(a.value, str) for a in arguments)


def _fields(keyword: ast.keyword, function: ast.FunctionDef) -> list[str]:
    """Return a keyword's name, or the keys of a dict passed by `**`, if the code shows them."""
    if keyword.arg:
        return [keyword.arg]
    name = ast.unparse(keyword.value)
    written = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == name
        and node.lineno < keyword.lineno
    ]
    return _keys(max(written, key=lambda node: node.lineno).value) if written else ["…"]


def _keys(value: ast.expr) -> list[str]:
    if not isinstance(value, ast.Dict):
        return ["…"]
    return [ast.literal_eval(key) if key else "…" for key in value.keys]
