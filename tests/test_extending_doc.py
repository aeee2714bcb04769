"""The code of docs/extending.md runs as the page says."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.config import DecisionThresholdConfig
from common.inference.thresholds import Evidence
from common.models import build_model
from common.registry import BASELINES, MODELS, TASKS, WRITERS, Registry
from tests.test_models import DIM, proteins, small
from tests.tiny_benchmark import ROOT, TinyProject, call_main

PAGE = (ROOT / "docs" / "extending.md").read_text()


def code_of(section: str) -> dict[str, Any]:
    """Run the Python of a section, and return the names that it defines."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, Any] = {"__name__": "doc"}
    exec(block, names)
    return names


@pytest.fixture
def registered() -> Iterator[None]:
    """What the page adds to the registries, for one test."""
    added: list[tuple[Registry, str, str, str]] = [
        (TASKS, "hubs", "A task", "Hubs"),
        (BASELINES, "by_length", "A baseline", "predict_by_length"),
        (WRITERS, "jsonl", "An output format", "JSON_LINES"),
    ]
    for registry, name, section, attribute in added:
        registry.add(name, code_of(section)[attribute])
    yield
    for registry, name, *_ in added:
        registry._entries.pop(name)


@pytest.mark.usefixtures("registered")
def test_the_task_and_the_baseline_judge_a_file(project: TinyProject) -> None:
    test = project.folder / "data" / "tiny" / "BFS" / "tiny_test_ppi.txt"
    (project.folder / "mine.txt").write_text(test.read_text())
    call_main(project, "evaluate.py", "--predictions", str(project.folder / "mine.txt"),
              "--tasks", "pairs", "hubs", "--set", "run_config.eval_run_id=a",
              "evaluate.baselines=[by_length]", "evaluate.intervals.resamples=0")  # fmt: skip
    logs = project.output / "logs" / "v3" / "evaluate" / "a"
    interacting = [line.split()[:2] for line in test.read_text().splitlines() if line[-1] == "1"]
    with (logs / "hubs.csv").open(newline="") as file:
        partners = {row["protein"]: int(row["partners"]) for row in csv.DictReader(file)}
    assert partners == {name: sum(name in pair for pair in interacting) for name in partners}
    metrics = json.loads((logs / "functional.json").read_text())
    assert metrics["hubs"] == {"most_partners": max(partners.values())}
    assert "by_length" in (logs / "baselines.csv").read_text()


@pytest.mark.usefixtures("registered")
def test_the_format_is_chosen_by_its_suffix(
    pretrained: tuple[TinyProject, Path], tmp_path: Path
) -> None:
    project, best = pretrained
    (tmp_path / "own.fasta").write_text(">A\nMKVLAAGITG\n>B\nMSERTIDPKQ\n>C\nMAGITGSERT\n")
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--fasta",
              str(tmp_path / "own.fasta"), "--output", str(tmp_path / "net.jsonl"),
              config=False)  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "net.jsonl").read_text().splitlines()]
    assert [(line["protein_a"], line["protein_b"]) for line in lines] == [
        ("A", "B"), ("A", "C"), ("B", "C"),
    ]  # fmt: skip
    assert all(0 < line["probability"] < 1 for line in lines)


def test_the_threshold_mode_calls_a_tenth() -> None:
    mode = code_of("A threshold mode")["MODE"]
    scores = np.linspace(0, 1, 101)
    choice = mode.choose(DecisionThresholdConfig(), Evidence(scores))
    assert (scores >= choice.threshold).sum() == 11


def test_the_model_is_symmetric_and_bilinear() -> None:
    code_of("A model")
    try:
        model = build_model(small("bilinear"), DIM)
    finally:
        MODELS._entries.pop("bilinear")
    model.train(False)
    x, lengths = proteins()
    with torch.no_grad():
        there, back = (model(x, lengths, torch.tensor([p])).logits for p in ([0, 1], [1, 0]))
        u, v = (model.standardize(x[i, : lengths[i]]).mean(0) for i in (0, 1))
        form = model.get_parameter("form.weight")
        torch.testing.assert_close(there, (u @ (form + form.T) @ v)[None])
    torch.testing.assert_close(there, back)
