"""What is said of predictions that do not cover exactly what is judged: each thing, in one line."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from common.charts import Plot
from common.config import DecisionThresholdConfig
from common.config_file import load_config
from common.errors import UserError
from common.evaluation import test_side
from common.evaluation.configuring import start_for_file
from common.evaluation.file_predictions import describe_scores
from common.evaluation.judging import Judgement, judge
from common.evaluation.prediction_file import read_predictions
from common.ranks import OneProcess
from tests.tiny_benchmark import SPECIES, TinyProject
from tests.tiny_run import configure


def open_tasks(project: TinyProject, *tasks: str) -> test_side.TestSide:
    """What the tasks are judged on."""
    config = load_config(project.config, "evaluate", [f"evaluate.tasks=[{','.join(tasks)}]"])
    return test_side.open_test_side(config)


def judge_text(project: TinyProject, text: str, *tasks: str) -> Judgement:
    """The judgement of a prediction file of this text."""
    side = open_tasks(project, *tasks)
    if "pairs" in tasks:  # They have been read, and so checked, before anything is scored.
        assert str(side.describe()[SPECIES]).startswith("50 test pairs")
    path = project.folder / "mine.txt"
    path.write_text(text)
    return judge(side, read_predictions(path, side.proteins()), 0.5)


def test_all_that_is_odd_about_a_file_is_said_once_each(project: TinyProject) -> None:
    """Each line of notes could be left out of the program, and no test noticed."""
    sets = project.folder / "data" / SPECIES / "BFS" / "test_sampled_nodes.pkl"
    content = pickle.loads(sets.read_bytes())
    content[8][0].add("Q1")
    sets.write_bytes(pickle.dumps(content))
    with (project.folder / "functional/selected_essential_proteins.txt").open("a") as file:
        file.write("Q2\n")
    test_file = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt"
    named = {frozenset(line.split()[:2]) for line in test_file.read_text().splitlines()}
    # The last two in no complex.
    one = next(sorted(pair) for pair in named if len(pair) == 2 and min(pair) > "P051")
    listed = [{"P040", "P041"}, {"P040", "P042"}, {"P043"}, {"P060"}, set(one)]
    found = judge_text(
        project,
        "A B score\n"
        "P040 P041 0.9\nP041 P040 0.9\n"
        "P040 P042 0.2\nP042 P040 0.7\n"
        "P043 P043 0.8\nP060 P060 0.8\n"
        f"{' '.join(one)} 0.1\n"
        "P044 P045 nan\n"
        "X9 P040 1\n",
        *("pairs", "topology", "complexes", "go_modules", "essential_proteins"),
    )
    *notes, tied = found.notes
    assert notes == [
        "line 1 has no numbers and is treated as a header",
        "1 line is ignored, because no task uses the protein (such as 'X9')",
        "1 line has the score NaN and counts as not predicted",
        "1 line repeats a pair with the same score; each pair counts once",
        "1 pair is listed with different scores; the highest score counts",
        "295 of 300 pairs of the tiny test graph have no score and count as not predicted",
        "2 listed pairs of the tiny test graph are self-pairs; they count like other pairs",
        "16 of 18 pairs of the complexes have no score and count as not predicted",
        f"{50 - sum(pair in named for pair in listed)} of 50 pairs of test have no score and"
        " count as not predicted; pairs without a score are ranked lowest, which affects auroc and"
        " auprc",
        "1 member of the node sets of size 8 is ignored (not in the test graph), which leaves out 0"
        " of 2 node sets",
        "1 predicted self-pair is ignored (inside complexes)",
        "1 listed protein is ignored (not in the test graph)",
    ]
    assert tied.endswith("precision_at_100_ties_shared does not depend on this order")
    plot = found.results["topology"].charts["degrees.png"].panels[0]
    assert isinstance(plot, Plot)
    predicted = plot.series[1]
    assert (predicted.name, predicted.x.tolist()) == ("predicted", [1, 2])
    assert (24 * predicted.y).round().tolist() == [5, 3]


def test_pairs_that_no_task_uses_are_counted(project: TinyProject) -> None:
    """Two known proteins, but not a test pair: 193,757 such pairs of a file went without a word."""
    test_file = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt"
    rows = [line.split() for line in test_file.read_text().splitlines()]
    asked = {tuple(sorted(row[:2])) for row in rows}
    other = next(("P040", b) for b in ("P050", "P051", "P052") if ("P040", b) not in asked)
    text = "".join(f"{b} {a} {label}\n" for a, b, label in rows)
    assert judge_text(project, text, "pairs").notes == []
    assert judge_text(project, f"{text}{' '.join(other)} 1\n", "pairs").notes == [
        f"1 listed pair is not used by any requested task (such as {' '.join(other)})"
    ]


def test_a_part_that_a_file_says_nothing_of_is_told(project: TinyProject) -> None:
    notes = judge_text(project, "P060 P061 1\n", "complexes", "topology").notes
    assert notes[0].startswith("299 of 300 pairs of the tiny test graph")
    assert notes[1].startswith("none of the 18 pairs of the complexes has a score, so all count as")


def test_a_file_of_another_naming_is_refused(project: TinyProject) -> None:
    with pytest.raises(UserError, match=r"mine\.txt has no line .* two of the 24 prot.* 'CDC28'"):
        judge_text(project, "CDC28 CLN2 1\n", "topology")
    # One side known: it was judged as a file that predicts nothing.
    with pytest.raises(
        UserError, match=r"'P041,'.* separate the columns by tabs, spaces or commas only"
    ):
        judge_text(project, "P041, P042 1\nP043, P044 1\n", "topology")


def test_the_figures_of_pairs_do_not_depend_on_what_else_is_judged(project: TinyProject) -> None:
    """A line that only complexes look at changed how all others were scored and ranked."""
    test_file = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt"
    rows = [line.split() for line in test_file.read_text().splitlines()][::2]
    rng = np.random.default_rng(0)
    numbers = rng.random(len(rows)).round(2)
    text = "".join(
        f"{a} {b} 0 {1 - p:.2f} {p}\n" for (a, b, _), p in zip(rows, numbers, strict=True)
    )
    text += "P040 P043 0 9 -9\n"  # in a complex, but no test pair
    assert ["P040", "P043"] not in [row[:2] for row in rows]
    alone = judge_text(project, text, "pairs")
    among = judge_text(project, text, "pairs", "complexes", "topology")
    assert alone.results["pairs"].tables == among.results["pairs"].tables


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("complexes", "complex_graphs.pkl"),
        ("go_modules", "test_go_terms.pkl"),
        ("essential_proteins", "selected_non_essential_proteins.txt"),
    ],
)
def test_a_file_that_a_functional_task_lacks_is_named(
    project: TinyProject, task: str, name: str
) -> None:
    (project.folder / "functional" / name).unlink()
    with pytest.raises(UserError, match=rf"functional_dir .* has no {name}, but the task {task}"):
        open_tasks(project, task)


def test_a_species_that_gprofiler_lacks_is_told_before_all_scoring(project: TinyProject) -> None:
    overrides = ["evaluate.tasks=[go_modules]", "evaluate.enrichment=gprofiler"]
    config = load_config(project.config, "evaluate", overrides)
    with pytest.raises(UserError, match=r"can only be used for the species .*, not for 'tiny'"):
        test_side.open_test_side(config)


def test_a_file_is_judged_by_rank_0_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a model is scored beside it, which all processes do together."""
    config = configure()
    for rank, expected in (("0", OneProcess()), ("1", None)):
        monkeypatch.setenv("RANK", rank)
        assert start_for_file(config) == expected
    beside = configure(evaluate={"baseline_checkpoint": "best_model"})
    monkeypatch.setattr("common.launch.start_accelerator", lambda given: given)
    assert start_for_file(beside) is beside


def test_a_threshold_that_does_not_suit_the_scores_is_told(project: TinyProject) -> None:
    """Scores up to 999, of which 0.5 calls each, were judged without a word."""
    side = open_tasks(project, "topology")
    path = project.folder / "mine.txt"
    path.write_text("P040 P041 999\nP040 P042 0.2\nP041 P042 400\n")
    predictions = read_predictions(path, side.proteins())
    assert describe_scores(predictions, DecisionThresholdConfig()) == [
        "the scores range from 0.2 to 999; with the threshold 0.5"
        " (evaluate.decision_threshold.value), 2 of 3 pairs are predicted to interact"
    ]
    path.write_text("P040 P041 1\nP040 P042 0\n")
    predictions = read_predictions(path)
    assert describe_scores(predictions, DecisionThresholdConfig()) == []
    (note,) = describe_scores(predictions, DecisionThresholdConfig(value=5.0))
    assert note.endswith("0 of 2 pairs are predicted to interact")
