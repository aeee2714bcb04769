"""Baselines beside what is judged: one table, the same pairs and tasks, scores that are kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from common.config_file import load_config
from common.console import fold
from common.csv_log import Table
from common.data import similarity
from common.errors import UserError
from common.evaluation import results
from common.evaluation.baselines import composition
from common.evaluation.baselines.base import predict_baseline
from common.evaluation.baselines.stored import digest_of, remember_scores
from common.evaluation.comparison import match_calls
from common.evaluation.intervals import Interval, Resamples, ScoredPairs
from common.evaluation.judging import judge
from common.evaluation.networks import FloatArray
from common.evaluation.prediction_file import read_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.test_side import TestSide, open_test_side
from common.registry import BASELINES
from tests.tiny_benchmark import SPECIES, TinyProject, call_main, make_project

TASKS = ("pairs", "topology", "complexes")
NOWHERE = "evaluate.baseline_checkpoint=nowhere"
WITH = ("--with-baselines",)


@pytest.mark.parametrize(
    ("count", "called"),
    [(0, 0), (1, 1), (2, 1), (3, 1), (4, 4), (5, 5), (6, 5), (7, 7), (9, 7)],
)
def test_as_many_pairs_are_called_but_of_equal_ones_all_or_none(count: int, called: int) -> None:
    scores = np.array([0.25, 5.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert (scores >= match_calls(scores, count)).sum() == called


def test_where_there_is_no_score_nothing_is_called() -> None:
    assert match_calls(np.empty(0), 3) == 0.0


def test_a_wide_table_is_parted_and_each_part_says_whose_the_numbers_are() -> None:
    header = ("method", "a", "bbbbbbbb", "c", "d")
    table = Table(header, [{"method": "model", "a": 1, "c": "longer text", "d": 2}], "A sentence.")
    # method has 6 characters; a 1, bbbbbbbb 8, c 11, d 1, and two before each.
    parts = fold(table, 6 + 13 + 3)
    assert [part.header for part in parts] == [
        ("method", "a", "bbbbbbbb"), ("method", "c", "d"),
    ]  # fmt: skip
    assert [part.caption for part in parts] == ["A sentence.", ""]
    assert parts[1].rows == [{"method": "model", "c": "longer text", "d": 2}]
    assert [len(fold(table, width)) for width in (6, 19, 35)] == [4, 3, 1]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Draw nothing, few trees, and a search by k-mers: MMseqs2 starts slowly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "save_chart", lambda *_: None)
        patch.setattr(composition, "TREES", 40)
        patch.setattr(similarity, "best_method", lambda: "k-mers")
        yield


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Path, Path]:
    """A file of random scores judged beside all baselines: the project, the file, the logs."""
    project = make_project(tmp_path_factory.mktemp("compared"))
    file = project.folder / "judged.txt"
    rng = np.random.default_rng(3)
    names = [f"P{i:03d}" for i in range(40, 64)]
    lines = [f"{a} {b} {rng.random():.6f}" for i, a in enumerate(names) for b in names[i:]]
    file.write_text("\n".join([*lines, ""]))
    return project, file, judge_file(project, file, "compared", options=WITH)


def judge_file(
    project: TinyProject,
    file: Path,
    run_id: str,
    *settings: str,
    options: tuple[str, ...] = (),
    tasks: tuple[str, ...] = TASKS,
) -> Path:
    call_main(project, "evaluate.py", "--predictions", str(file), "--tasks", *tasks, *options,
              "--set", f"run_config.eval_run_id={run_id}", *settings)  # fmt: skip
    return project.output / "logs" / "v3" / "evaluate" / run_id


# The baseline that embeds proteins is not run beside a file unless the configuration names it.
BESIDE_FILES = [name for name in BASELINES.names() if name != "kernel"]


def table_of(logs: Path) -> dict[str, dict[str, float | None]]:
    """The numbers of `baselines.csv` by method, in its order."""
    with (logs / "baselines.csv").open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    return {
        str(row.pop("method")): {name: float(cell) if cell else None for name, cell in row.items()}
        for row in rows
    }


def open_side(project: TinyProject, *tasks: str) -> TestSide:
    asked = f"evaluate.tasks=[{','.join(tasks or TASKS)}]"
    config = load_config(project.config, "evaluate", [asked])
    return open_test_side(config)


def test_what_is_judged_stands_on_top_with_its_own_numbers(
    compared: tuple[TinyProject, Path, Path],
) -> None:
    _, file, logs = compared
    table = table_of(logs)
    assert list(table) == ["predictions", *BESIDE_FILES]
    own = table["predictions"]
    scores = [float(line.split()[2]) for line in file.read_text().splitlines()]
    assert own["pairs_called"] == sum(score >= 0.5 for score in scores)
    first, second = (logs / "evaluate.csv").read_text().splitlines()[1:3]
    assert [own["auroc"], own["auprc"]] == [float(cell) for cell in first.split(",")[1:3]]
    assert own["auroc_without_self_pairs"] == float(second.split(",")[1])
    summary = (logs / "topology.csv").read_text().splitlines()[-1].split(",")
    assert [own["graph_sim_BFS"], own["relative_density_BFS"]] == list(map(float, summary[3:5]))
    found = json.loads((logs / "functional.json").read_text())["complexes"]
    assert own["pathway_recall"] == found["pathway_recall"]
    assert list(own) == [
        "pairs_called", "auroc", "auprc", "auroc_without_self_pairs", "auprc_without_self_pairs",
        "graph_sim_BFS", "relative_density_BFS", "graph_sim_without_self_pairs_BFS",
        "pathway_recall", "pathway_precision",
        "pathway_connectivity",
    ]  # fmt: skip


def test_a_baseline_is_judged_as_a_file_of_its_scores_would_be(
    compared: tuple[TinyProject, Path, Path],
) -> None:
    """Scikit-learn ranks them; the network is that of the threshold that calls as many."""
    project, _, logs = compared
    table, side = table_of(logs), open_side(project)
    test = side.sets[0].table
    for name in ("random", "composition"):
        predictions = predict_baseline(name, side, 47)
        scores = predictions.scores_of(test.proteins, test.pairs)
        assert table[name]["auroc"] == pytest.approx(roc_auc_score(test.labels, scores))
        expected = average_precision_score(test.labels, scores)
        assert table[name]["auprc"] == pytest.approx(expected)
        called = int(table["predictions"]["pairs_called"] or 0)
        assert table[name]["pairs_called"] == called
        assert 0 < called < len(predictions.scores)
        threshold = np.sort(predictions.scores)[-called]
        rows = judge(side, predictions, threshold).results["topology"].tables["topology.csv"].rows
        assert table[name]["graph_sim_BFS"] == rows[-1]["graph_sim"]
    # All that is not a self-pair has one score, and is not called.
    assert table["self_pairs"]["pairs_called"] == 24
    assert table["degree"]["pairs_called"] == 0
    assert (table["degree"]["auroc"], table["degree"]["graph_sim_BFS"]) == (0.5, 0.0)


def test_only_pairs_that_a_task_looks_at_count_as_calls(
    compared: tuple[TinyProject, Path, Path],
) -> None:
    project, file, _ = compared
    chosen = "evaluate.baselines=[random]"
    table = table_of(judge_file(project, file, "only_pairs", chosen, tasks=("pairs",)))
    test = open_side(project, "pairs").sets[0].table
    scores = read_predictions(file).scores_of(test.proteins, test.pairs)
    called = int((scores >= 0.5).sum())
    assert 0 < called < len(test)
    assert table["predictions"]["pairs_called"] == table["random"]["pairs_called"] == called


def test_differences_are_on_the_resamples_of_the_intervals(
    compared: tuple[TinyProject, Path, Path],
) -> None:
    project, file, logs = compared
    table, side = table_of(logs), open_side(project)
    document = json.loads((logs / "evaluate_intervals.json").read_text())
    assert list(document["differences"]) == BESIDE_FILES
    test = side.sets[0].table
    resamples = Resamples.draw(test, 1000, 47)
    found = []
    for predictions in (read_predictions(file), predict_baseline("random", side, 47)):
        scores = predictions.scores_of(test.proteins, test.pairs)
        found.append(resamples.measure(ScoredPairs(test.pairs, test.labels, scores, 0.5))["auroc"])
    interval = Interval.of(found[0] - found[1])
    assert interval is not None
    written = document["differences"]["random"]["auroc"]
    assert [written["low"], written["high"]] == pytest.approx([interval.low, interval.high])
    own, other = table["predictions"]["auroc"], table["random"]["auroc"]
    assert written["value"] == pytest.approx((own or 0) - (other or 0))


def test_only_the_named_baselines_are_compared_and_their_names_are_checked(
    compared: tuple[TinyProject, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the option; a toy that only this test knows; no intervals, so no differences."""
    project, file, _ = compared

    def longest_name(side: TestSide, seed: int) -> Predictions:
        table = side.needed_pairs()
        return Predictions.gather(table.proteins, table.pairs, np.arange(len(table)) * 1.0)

    BASELINES.add("toy", longest_name)
    settings = "evaluate.intervals.resamples=0"
    try:
        chosen = (settings, "evaluate.baselines=[toy, self_pairs, toy]")
        logs = judge_file(project, file, "named", *chosen)
    finally:
        BASELINES._entries.pop("toy")
    assert list(table_of(logs)) == ["predictions", "toy", "self_pairs"]
    assert not (logs / "evaluate_intervals.json").exists()
    out = capsys.readouterr().out
    heading = " on tiny BFS, test data of pring"
    caption = "Each baseline predicts as many interactions as the predictions, or fewer"
    assert f"{heading}\n{caption}" in out
    *tables, _closing = out.strip().split("\n\n")
    assert all(heading in table.splitlines()[0] for table in tables)
    assert "\nmethod       pairs_called   auroc" in out
    assert "minus" not in out
    with pytest.raises(UserError, match=r"evaluate\.baselines.*did you mean 'degree'"):
        judge_file(project, file, "wrong", "evaluate.baselines=[degre]")


def test_without_baselines_there_is_no_table(
    compared: tuple[TinyProject, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project, file, _ = compared
    logs = judge_file(project, file, "alone")
    assert not (logs / "baselines.csv").exists()
    assert "method" not in capsys.readouterr().out
    assert "differences" not in json.loads((logs / "evaluate_intervals.json").read_text())


def test_what_needs_training_pairs_is_left_out_where_there_are_none(project: TinyProject) -> None:
    (project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_train_ppi.txt").unlink()
    (project.folder / "mine.txt").write_text("P041 P042 0.7\n")
    logs = judge_file(project, project.folder / "mine.txt", "untrained", options=WITH)
    assert list(table_of(logs)) == ["predictions", "random", "self_pairs"]
    log = (logs / "log.log").read_text()
    for name in ("degree", "homology", "composition"):
        assert f"note=the baseline {name} is left out: tiny (BFS) has no training pairs\n" in log


def test_another_model_is_compared_with_beside_a_model_and_beside_a_file(
    pretrained: tuple[TinyProject, Path],
) -> None:
    """The model itself: there is no difference, and its file has the same rows."""
    project, best = pretrained
    chosen = ["evaluate.baselines=[random]", f"evaluate.baseline_checkpoint={best}"]
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", *TASKS, "--set",
              *chosen, "run_config.eval_run_id=itself")  # fmt: skip
    logs = project.output / "logs" / "v3" / "evaluate" / "itself"
    table = table_of(logs)
    assert list(table) == ["model", "v3", "random"]
    ranked = [name for name in table["model"] if name.startswith("au")]
    assert len(ranked) == 4
    assert [table["v3"][name] for name in ranked] == [table["model"][name] for name in ranked]
    document = json.loads((logs / "evaluate_intervals.json").read_text())
    assert document["differences"]["v3"]["auroc"] == {
        "value": 0.0, "low": 0.0, "high": 0.0, "undefined": 0,
    }  # fmt: skip
    copy = TinyProject(project.folder, logs / "config.yaml")
    again = judge_file(copy, logs / "predictions.txt.gz", "itself_again")
    assert list(table_of(again).values()) == list(table.values())
    with pytest.raises(UserError, match=r"evaluate\.baseline_checkpoint nowhere is not a best_mo"):
        judge_file(project, logs / "predictions.txt.gz", "to_none", NOWHERE)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes whenever compositions are counted: twice for every fit."""
    fitted: list[int] = []
    compose = composition.compositions

    def note(sequences: Sequence[str]) -> FloatArray:
        fitted.append(len(sequences))
        return compose(sequences)

    monkeypatch.setattr(composition, "compositions", note)
    return fitted


def test_learned_scores_are_kept_by_content(project: TinyProject, counted: list[int]) -> None:
    """Computed again for other training pairs, other sequences, another seed, a damaged file."""

    def score(seed: int = 47) -> list[float]:
        predictions = predict_baseline("composition", open_side(project, "pairs"), seed)
        return [float(score) for score in predictions.scores]

    first = score()
    assert score() == first
    assert len(counted) == 2
    (kept,) = (project.folder / "cache" / "pairs" / "baselines").iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:-8], whole[:40] + b"?" + whole[41:]):
        kept.write_bytes(damaged)
        assert score() == first
    assert len(counted) == 6
    score(seed=48)
    train = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_train_ppi.txt"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[1:]))
    score()
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    fasta.write_text(fasta.read_text().replace("\n>P050\n", "\n>P050\nMMMM"))
    assert score() != first
    assert len(counted) == 12


def test_contents_that_only_look_alike_have_other_digests() -> None:
    array = np.array([1, 2])
    alike: list[list[object]] = [["a", "bc"], ["ab", "c"], ["abc"], ["a", "bc", ""], [array]]
    alike += [[array.tobytes()], [array.astype(np.int8)]]
    assert len({digest_of(content) for content in alike}) == len(alike)


def test_scores_for_another_number_of_pairs_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "new" / "scores"
    for count in (3, 3, 2):
        scores = remember_scores(file, count, partial(np.arange, count, dtype=float))
        assert scores.tolist() == [*range(count)]
