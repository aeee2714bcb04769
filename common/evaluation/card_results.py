"""Write evaluation results into the model card of the evaluated checkpoint.

The card has a block between two comments for each task and test set, which the next evaluation on
the same task and test set replaces. The rest of the card is never changed, so people can edit it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCard

from common.config import Config
from common.console import format_cell
from common.csv_log import Table
from common.errors import UserError
from common.evaluation.judging import Judgement
from common.evaluation.results import summary_tables
from common.evaluation.tasks.base import TaskResult
from common.evaluation.tasks.pairs import WITHOUT_SELF_PAIRS
from common.files import write_atomically
from common.inference.card import (
    CARD_FILE,
    NOT_JUDGED,
    RESULTS_HEADING,
    describe_benchmark,
    format_table,
    hub_result,
    title_of,
    write_card,
)
from common.inference.checkpoints import DECISION_FILE, Checkpoint
from common.inference.hub import is_hub_copy
from common.provenance import commit
from common.run import Run

_BLOCK = re.compile(r"<!-- relic: (?P<key>[^\n]+) -->\n.*?<!-- end of relic -->\n", re.DOTALL)
_BRACKETS = "Brackets contain 95 % confidence intervals from a bootstrap over proteins."


def fill_card(run: Run, checkpoint: Checkpoint, judgement: Judgement) -> None:
    """Write evaluation results into the checkpoint's model card, or log a warning on failure.

    Call this on the main process only. A checkpoint in the Hub's cache is left unchanged.
    """
    path = checkpoint.path / CARD_FILE
    if is_hub_copy(checkpoint.path):
        return
    try:
        with _locked(checkpoint.path / DECISION_FILE):
            card = ModelCard(_read_card(path, checkpoint))
            _update(card, run.config, judgement)
            write_atomically(path, str(card))
    except (UserError, OSError, ValueError, yaml.YAMLError) as error:
        run.warn("card_not_updated", path=path, reason=error)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Lock the file, if the file system can, so that only one run at a time changes the card."""
    with file.open("rb") as opened:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _read_card(path: Path, checkpoint: Checkpoint) -> str:
    """Return the text of the checkpoint's card, or of a new card if the checkpoint has none."""
    if path.is_file():
        return path.read_text(encoding="utf-8-sig")
    parameters = checkpoint.model.num_parameters()
    return write_card(checkpoint.config, checkpoint.decision, parameters, {})


def _update(card: ModelCard, config: Config, judgement: Judgement) -> None:
    text = card.text.replace(f"{NOT_JUDGED}\n\n", "")
    for key, content in result_blocks(config, judgement).items():
        text = place_block(text, key, content)
    card.text = text
    merged: dict[tuple[str | None, ...], list[EvalResult]] = {}
    for each in card.data.get("eval_results", []):
        merged.setdefault(_place(each), []).append(each)
    new = list(hub_results(config, judgement.results))
    merged |= {_place(each): [] for each in new}
    for each in new:
        merged[_place(each)].append(each)
    if merged:
        card.data["model_name"] = card.data.get("model_name", title_of(config))
        card.data["eval_results"] = [each for results in merged.values() for each in results]


def _place(result: EvalResult) -> tuple[str | None, ...]:
    return result.dataset_type, result.dataset_config, result.dataset_split


def hub_results(config: Config, results: Mapping[str, TaskResult]) -> Iterator[EvalResult]:
    """Yield the metrics of every species' labelled test pairs for the Hub's `model-index`."""
    species = ("test", *(f"test_{name}" for name in config.evaluate.cross_species))
    wanted = {f"{name}{rest}" for name in species for rest in ("", WITHOUT_SELF_PAIRS)}
    rows = results["pairs"].tables["evaluate.csv"].rows if "pairs" in results else ()
    for row in rows:
        if row["split"] in wanted:
            for metric, value in row.items():
                if isinstance(value, float):
                    yield hub_result(config, str(row["split"]), metric, value)


def result_blocks(config: Config, judgement: Judgement) -> dict[str, str]:
    """Return the card's Markdown blocks by key: first an overview, then a block for each task."""
    side = describe_benchmark(config)
    blocks = {f"{side} / overview": f"### {side}\n\n{_overview(judgement)}"}
    for task, result in judgement.results.items():
        tables = summary_tables(task, result)
        parts = [f"#### {task} ({side})", *map(_format_table, tables)]
        if any("[" in part for part in parts[1:]):
            parts.append(_BRACKETS)
        blocks[f"{side} / {task}"] = "\n\n".join(parts)
    return blocks


def place_block(text: str, key: str, content: str) -> str:
    """Replace the block with this key, or insert a block after other blocks of the same test set.

    Args:
        text: The card's text without its metadata.
        key: The test set and the task, separated by ` / `.
        content: The Markdown text of the block.
    """
    block = f"<!-- relic: {key} -->\n{content}\n<!-- end of relic -->\n"
    found = list(_BLOCK.finditer(text))
    for match in found:
        if match["key"] == key:
            return text[: match.start()] + block + text[match.end() :]
    side = key.partition(" / ")[0]
    related = [match for match in found if match["key"].startswith(f"{side} / ")] or found
    if related:
        end = related[-1].end()
        return f"{text[:end]}\n{block}{text[end:]}"
    if f"{RESULTS_HEADING}\n" not in text:
        text = f"{text.rstrip()}\n\n{RESULTS_HEADING}\n"
    before, heading, after = text.partition(f"{RESULTS_HEADING}\n")
    return f"{before}{heading}\n{block}{after}"


def _overview(judgement: Judgement) -> str:
    today, threshold = datetime.date.today().isoformat(), judgement.threshold
    calibration = judgement.calibration
    sentences = [
        f"Evaluated on {today} by RELIC at commit {commit() or 'unknown'}, with the decision"
        f" threshold {threshold.value:.6g} ({threshold.mode}).",
        *(f"{network.species}: {network.sentence()}." for network in judgement.networks),
        calibration.sentence() if calibration is not None else None,
        judgement.closing(),
    ]
    notes = [f"- {html.escape(note, quote=False)}" for note in judgement.notes]
    paragraphs = [" ".join(filter(None, sentences)), "\n".join(notes)]
    return "\n\n".join(filter(None, paragraphs))


def _format_table(table: Table) -> str:
    rows = [[format_cell(row.get(name)) for name in table.header] for row in table.rows]
    text = format_table(table.header, rows)
    return f"{table.caption}\n\n{text}" if table.caption else text
