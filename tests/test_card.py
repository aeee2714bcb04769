"""The model card: what a stranger reads in it, and that judgements and people may both write it."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from common.csv_log import Cell, Table
from common.evaluation.card_results import fill_card, place_block
from common.evaluation.judging import Judgement
from common.evaluation.tasks.base import TaskResult
from common.inference.card import CARD_FILE, NOT_JUDGED, write_card
from common.inference.checkpoints import Checkpoint, load_checkpoint, save_model
from common.inference.thresholds import Threshold
from common.run import LOGGER, Run
from tests.tiny_benchmark import TinyProject
from tests.tiny_pairs import one_process
from tests.tiny_run import DECISION, configure, model_of

OWN_TEXT = "\n## Notes of the laboratory\n\nWe like it.\n"


@pytest.fixture
def checkpoint(run: Run) -> Checkpoint:
    data = {"train": "75 pairs (30 positive, 40 proteins)"}
    return load_checkpoint(save_model(run, model_of(run.config), DECISION, data=data))


def judgement(auroc: float, *, note: str = "2 of 9 pairs have no score") -> Judgement:
    rows: list[dict[str, Cell]] = [
        {"split": "test", "auroc": auroc, "f1": None},
        {"split": "test_seen0", "auroc": 0.9},
    ]
    shown = Table(("split", "auroc"), [{"split": "test", "auroc": f"{auroc} [0.1, 0.2]"}])
    pairs = TaskResult(tables={"evaluate.csv": Table(("split", "auroc"), rows)}, summary=[shown])
    go_modules = TaskResult(metrics={"consistency": 0.25})
    return Judgement({"pairs": pairs, "go_modules": go_modules}, [note], Threshold(0.3, "fixed"))


def on(run: Run, species: str) -> Run:
    """The same run, judging another species."""
    config = configure(data_config={"benchmark": {"species": species}})
    return Run(run.stage, run.run_id, config, run.accelerator, run.log_dir, run.model_dir)


def measured(path: Path) -> dict[tuple[str, str, str], float]:
    results = ModelCard.load(path / CARD_FILE).data.eval_results
    return {
        (each.dataset_config, each.dataset_split, each.metric_type): each.metric_value
        for each in results
    }


def test_a_checkpoint_comes_with_a_card(checkpoint: Checkpoint) -> None:
    card = ModelCard.load(checkpoint.path / CARD_FILE)
    assert card.data.library_name == "relic"
    assert card.data.license is None
    assert measured(checkpoint.path) == {("human_BFS", "validation", "auprc"): 0.333333}
    assert "- Training pairs: 75 pairs (30 positive, 40 proteins)\n" in card.text
    assert "at least 0.3 are called interactions (mode `best_f1_on_valid`" in card.text
    assert "| AUPRC | 0.3333 |\n| AUROC | undefined |" in card.text
    assert NOT_JUDGED in card.text
    assert "{" not in re.sub(r"```.*?```", "", card.text, flags=re.DOTALL)


def test_the_card_names_a_language_model_of_the_hub_but_no_directories_of_its_author(
    checkpoint: Checkpoint,
) -> None:
    for name, base in (("facebook/esm2_t6_8M_UR50D",) * 2, ("/home/ann/models/esm", None)):
        config = configure(
            data_config={"embeddings": {"model_name": name}, "benchmark": {"name": "demo"}},
            run_config={"load_checkpoint_path": "/home/ann/runs/one/best_model"},
        )
        card = ModelCard(write_card(config, checkpoint.decision, 1234, {}))
        assert card.data.get("base_model") == base
        assert "/home" not in str(card)
        assert "- Continued from: one/best_model\n" in card.text
        assert "1,234 parameters" in card.text
        assert "synthetic" in card.text
        assert card.data.get("datasets") is None


def test_a_changed_card_leaves_the_checkpoint_as_it_was(checkpoint: Checkpoint) -> None:
    (checkpoint.path / CARD_FILE).write_text("mine")
    assert load_checkpoint(checkpoint.path).decision == checkpoint.decision
    (checkpoint.path / CARD_FILE).unlink()
    assert load_checkpoint(checkpoint.path).decision == checkpoint.decision


def test_judgements_stand_beside_each_other_and_replace_their_own_kind(
    run: Run, checkpoint: Checkpoint
) -> None:
    path = checkpoint.path / CARD_FILE
    fill_card(run, checkpoint, judgement(0.5))
    fill_card(on(run, "yeast"), checkpoint, judgement(0.6))
    both = path.read_text()
    assert NOT_JUDGED not in both
    assert "| test | 0.5 [0.1, 0.2] |\n\nBrackets contain 95 % confidence intervals" in both
    assert "| go_modules | 0.2500 |" in both
    assert measured(checkpoint.path) == {
        ("human_BFS", "validation", "auprc"): 0.333333,
        ("human_BFS", "test", "auroc"): 0.5,
        ("yeast_BFS", "test", "auroc"): 0.6,
    }
    fill_card(on(run, "yeast"), checkpoint, judgement(0.6))
    assert path.read_text() == both
    fill_card(run, checkpoint, judgement(0.7, note="ids <a> & b"))
    assert path.read_text() == (
        both.replace("0.5 [", "0.7 [")
        .replace("2 of 9 pairs have no score", "ids &lt;a&gt; &amp; b", 1)
        .replace("value: 0.5\n", "value: 0.7\n")
    )


def test_what_people_write_is_kept(run: Run, checkpoint: Checkpoint) -> None:
    path = checkpoint.path / CARD_FILE
    fill_card(run, checkpoint, judgement(0.5))
    text = path.read_text().replace(
        "library_name", "license: mit\nlanguage_of_lab: de\nlibrary_name"
    )
    path.write_text(text.replace("#### pairs", f"{OWN_TEXT}\n#### pairs") + OWN_TEXT)
    first = path.read_text().replace("<!-- relic: pring human BFS / go_modules -->", OWN_TEXT)
    path.write_text(first)
    fill_card(on(run, "yeast"), checkpoint, judgement(0.6))
    fill_card(run, checkpoint, judgement(0.5))
    card = ModelCard.load(path)
    assert card.data.license == "mit"
    assert card.data["language_of_lab"] == "de"
    assert card.text.count(OWN_TEXT) == 2  # Within a block, what is written is replaced.
    assert card.text.endswith(OWN_TEXT)


def test_a_block_finds_its_place() -> None:
    begun = place_block("# Mine\n", "a / pairs", "one")
    assert begun == (
        "# Mine\n\n## Results on test proteins\n\n"
        "<!-- relic: a / pairs -->\none\n<!-- end of relic -->\n"
    )
    both = place_block(place_block(begun, "b / pairs", "two"), "a / topology", "three")
    assert re.findall(r"^(one|two|three)$", both, re.M) == ["one", "three", "two"]
    assert place_block(both, "b / pairs", "2") == both.replace("two", "2")


@pytest.mark.parametrize(
    "content", ["---\na: [\n---\n", "---\nmodel-index: 3\n---\n", "---\n- a\n---\n"]
)
def test_a_card_with_a_broken_head_is_left_alone(
    run: Run, checkpoint: Checkpoint, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The judgement itself must not be lost because of the card."""
    path = checkpoint.path / CARD_FILE
    path.write_text(content)
    assert told(run, checkpoint, caplog).startswith(f"card_not_updated | path={path} | reason=")
    assert path.read_text() == content


def test_a_card_that_cannot_be_written_costs_a_warning_only(
    run: Run,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = (checkpoint.path / CARD_FILE).read_text()

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    said = told(run, checkpoint, caplog)
    assert "card_not_updated" in said
    assert "Permission denied; make room or allow writing there" in said
    assert (checkpoint.path / CARD_FILE).read_text() == before
    assert not list(checkpoint.path.glob(".*"))


def told(run: Run, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> str:
    """The warning of an attempt to fill the card."""
    caplog.handler.setLevel(logging.WARNING)
    LOGGER.addHandler(caplog.handler)
    fill_card(run, checkpoint, judgement(0.5))
    LOGGER.removeHandler(caplog.handler)
    return caplog.messages[-1]


def test_an_old_checkpoint_gets_a_card_and_the_hubs_cache_is_left_alone(
    run: Run, checkpoint: Checkpoint
) -> None:
    (checkpoint.path / CARD_FILE).unlink()
    copy = checkpoint.path.parent / "models--ann--ppi" / "snapshots" / "0123"
    shutil.copytree(checkpoint.path, copy)
    for path in (checkpoint.path, copy):
        fill_card(run, replace(checkpoint, path=path), judgement(0.5))
    assert "| test | 0.5 [0.1, 0.2] |" in (checkpoint.path / CARD_FILE).read_text()
    assert not (copy / CARD_FILE).exists()


def test_the_cards_own_lines_load_the_model(
    pretrained: tuple[TinyProject, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = (pretrained[1] / CARD_FILE).read_text()
    assert "- Training pairs: 75 pairs" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    one_process()
    names: dict[str, object] = {}
    exec(
        code.replace('"DIR"', repr(str(pretrained[1]))).replace(
            "predictor.score", "p = predictor.score"
        ),
        names,
    )
    assert isinstance(names["p"], np.ndarray)
