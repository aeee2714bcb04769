"""Calibrated models: what training stores, and what judging and own pairs make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import Config
from common.data.splits import Splits
from common.errors import UserError
from common.evaluation.calibration_report import CalibrationReport
from common.evaluation.prediction_file import read_predictions
from common.inference.calibration import Calibration, fit_calibration, measure_calibration
from common.inference.checkpoints import Checkpoint
from common.inference.deciding import Decider, choose_calibration, choose_threshold
from common.inference.decision import Decision
from common.inference.scoring import probabilities, score_pairs
from tests.tiny_benchmark import SPECIES, TinyProject, call_main, make_project
from tests.tiny_pairs import make_pairs, one_process
from tests.tiny_run import configure, model_of

STORED = Calibration(2.0, prevalence=0.01, validation_share=0.5)
TEMPERATURE = ["evaluate.calibration=temperature", "evaluate.prevalence=0.05"]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Path]:
    """A project with a model that was trained with calibration, and the model."""
    project = make_project(tmp_path_factory.mktemp("calibrated"), epochs=1)
    call_main(project, "pretrain.py", "--set", *TEMPERATURE, "run_config.pretrain_run_id=one")
    return project, project.output / "models" / "v3" / "pretrain" / "one" / "best_model"


def settings(**evaluate: Any) -> Config:
    return configure(evaluate=evaluate)


def checkpoint_of(config: Config, calibration: Calibration | None) -> Checkpoint:
    decision = Decision(0.5, "fixed", "auprc", 1, {}, "", {}, calibration)
    return Checkpoint(Path("best_model"), model_of(config), config, decision)


def test_training_stores_temperature_prevalence_and_the_moved_threshold(
    calibrated: tuple[TinyProject, Path],
) -> None:
    _, best = calibrated
    decision = json.loads((best / "decision.json").read_text())
    stored = Calibration(**decision["calibration"])
    assert stored.prevalence == 0.05
    assert 0 < stored.validation_share < 1
    assert decision["threshold"] == 0.5
    assert decision["calibrated_threshold"] == pytest.approx(float(stored.apply(0.5)))


def test_a_judged_model_reports_its_calibration_and_keeps_its_scores(
    calibrated: tuple[TinyProject, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics and calls are to the last bit those of the same model without calibration."""
    project, best = calibrated
    for name, chosen in (("with", TEMPERATURE), ("without", [])):
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--set",
                  f"run_config.eval_run_id={name}", "evaluate.intervals.resamples=0", *chosen
                  )  # fmt: skip
    logs = project.output / "logs" / "v3" / "evaluate"
    for file in ("evaluate.csv", "predictions.txt.gz"):
        assert (logs / "with" / file).read_bytes() == (logs / "without" / file).read_bytes()
    assert not (logs / "without" / "calibration.json").exists()
    report = json.loads((logs / "with" / "calibration.json").read_text())
    decision = json.loads((best / "decision.json").read_text())
    assert {name: report[name] for name in decision["calibration"]} == decision["calibration"]
    shown = [line for line in capsys.readouterr().out.splitlines() if "Calibration with" in line]
    (line,) = shown
    after = report["at_the_prevalence"]["calibrated"]["ece"]
    assert f"prevalence of 0.05, the expected calibration error is {after:.3g} instead of" in line
    assert "temperature=" in (logs / "with" / "log.log").read_text()


def score_own(
    project: TinyProject, best: Path, output: Path, *chosen: str
) -> list[tuple[float, int]]:
    """The probabilities and calls of some pairs; without a setting, the checkpoint's own."""
    pairs = output.with_name("mine.txt")
    pairs.write_text("".join(f"P{41 + i:03d}\tP{50 - i:03d}\n" for i in range(8)))
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--pairs", str(pairs), "--fasta",
              str(fasta), "--output", str(output), *(["--set", *chosen] if chosen else []),
              config=False)  # fmt: skip
    rows = [line.split("\t") for line in output.read_text().splitlines()[1:]]
    assert all(len(row[2].lstrip("0.").replace(".", "").partition("e")[0]) <= 6 for row in rows)
    return [(float(row[2]), int(row[3])) for row in rows]


def test_own_pairs_get_calibrated_probabilities_and_the_same_calls(
    calibrated: tuple[TinyProject, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, best = calibrated
    decision = json.loads((best / "decision.json").read_text())
    stored, moved = Calibration(**decision["calibration"]), decision["calibrated_threshold"]
    found = score_own(project, best, tmp_path / "a.tsv")
    shown = capsys.readouterr().out
    assert "; its probabilities are calibrated (temperature " in shown
    assert ", assumed fraction of interacting pairs 0.05)" in shown
    assert f"at least {moved:.4g} (fixed in the model's training configuration)" in shown
    plain = score_own(project, best, tmp_path / "b.tsv", "evaluate.calibration=none")
    assert "are not calibrated" in capsys.readouterr().out
    assert [call for _, call in found] == [call for _, call in plain]
    raw = [probability for probability, _ in plain]
    assert [one for one, _ in found] == pytest.approx(stored.apply(raw).tolist(), rel=2e-5)
    rarer = score_own(project, best, tmp_path / "c.tsv", "evaluate.prevalence=0.001")
    expected = replace(stored, prevalence=0.001).apply(raw)
    assert [one for one, _ in rarer] == pytest.approx(expected.tolist(), rel=2e-5)
    # A threshold that is given is one of the probabilities that are written.
    middle = float(np.median([one for one, _ in found]))
    given = f"evaluate.decision_threshold.value={middle}"
    calls = score_own(project, best, tmp_path / "d.tsv", given)
    assert [call for _, call in calls] == [int(one >= middle) for one, _ in found]
    assert read_predictions(tmp_path / "a.tsv").scores.max() < 0.5


def test_a_prevalence_that_nothing_is_known_of_is_refused_before_training(
    project: TinyProject,
) -> None:
    with pytest.raises(
        UserError,
        match=r"evaluate.calibration: temperature \(with evaluate.prevalence: auto\) needs valid"
        r".*mode: protein_disjoint",
    ):
        call_main(project, "pretrain.py", "--set", TEMPERATURE[0])


def test_the_stored_calibration_is_taken_with_the_prevalence_asked_for() -> None:
    temperature = {"calibration": "temperature"}
    auto = checkpoint_of(settings(**temperature), STORED)
    given = {**temperature, "prevalence": 0.1}
    for config, expected in (
        (settings(calibration="none"), None),
        (settings(**temperature), STORED),
        (settings(**given), replace(STORED, prevalence=0.1)),
    ):
        assert Decider(auto, config, one_process()).calibration == expected
        assert choose_calibration(auto, config) == expected


def test_a_model_without_a_calibration_is_calibrated_on_its_validation_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs, config = make_pairs(40, dim=6), settings(calibration="temperature", prevalence=0.1)
    opened = Splits({"val": pairs}, {})
    monkeypatch.setattr("common.inference.deciding.open_splits", lambda *_: opened)
    checkpoint = checkpoint_of(settings(), None)
    logits = score_pairs(checkpoint.model, pairs, config.evaluate.scoring, one_process())
    expected = fit_calibration(probabilities(logits), pairs.table.labels, 0.1)
    assert Decider(checkpoint, config, one_process()).calibration == expected
    with pytest.raises(UserError, match=r"trained with evaluate.calibration: none, so it has no"):
        choose_calibration(checkpoint, config)
    pairs.table.labels[:] = 1
    with pytest.raises(UserError, match=r"one class only.*set evaluate.calibration: none"):
        _ = Decider(checkpoint, config, one_process()).calibration


def test_a_threshold_and_a_calibration_are_chosen_on_pairs_that_are_scored_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = iter([Splits({"val": make_pairs(40, dim=6)}, {})])
    mode = {"decision_threshold": {"mode": "best_f1_on_valid"}}
    config = settings(calibration="temperature", prevalence=0.1, **mode)
    monkeypatch.setattr("common.inference.deciding.open_splits", lambda *_: next(opened))
    decider = Decider(checkpoint_of(settings(), None), config, one_process())
    assert decider.threshold.value != 0.5
    assert decider.calibration is not None


def test_thresholds_are_moved_along_unless_they_are_given() -> None:
    config = settings(calibration="temperature")
    checkpoint = checkpoint_of(config, STORED)
    fixed = "evaluate.decision_threshold.value=0.5"
    assert choose_threshold(checkpoint, config, [], None) == 0.5
    # The odds of one half are those of the prevalence.
    assert choose_threshold(checkpoint, config, [], STORED) == pytest.approx(0.01)
    assert choose_threshold(checkpoint, config, [fixed], STORED) == 0.5


def test_the_report_measures_before_and_after_at_both_prevalences() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(200), rng.integers(0, 2, 200).astype(np.int8)
    report = CalibrationReport.of(scores, labels, STORED).describe()
    own = report["at_the_test_pairs_own_prevalence"]
    assert own["prevalence"] == labels.mean()
    assert own["uncalibrated"] == measure_calibration(scores, labels, labels.mean())
    assert own["calibrated"] == measure_calibration(
        STORED.apply_at(scores, labels.mean()), labels, labels.mean()
    )
    natural = report["at_the_prevalence"]
    assert natural["prevalence"] == 0.01
    assert natural["calibrated"] == measure_calibration(STORED.apply(scores), labels, 0.01)
    cold = replace(STORED, temperature=1.0).apply(scores)
    assert natural["prevalence_only"] == pytest.approx(measure_calibration(cold, labels, 0.01))
