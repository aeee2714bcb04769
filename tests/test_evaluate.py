"""Judging: all tasks for a checkpoint, the same figures from its prediction file, own pairs."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from common.config import Config, EvaluateConfig
from common.config_data import BenchmarkConfig, DataConfig
from common.config_file import load_config, read_resolved_config
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation import test_side
from common.evaluation.prediction_file import read_predictions
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.pairs import scores_of_table
from common.evaluation.tasks.topology import Topology
from common.inference.pair_metrics import pair_metrics
from common.inference.thresholds import call_pairs
from tests.tiny_benchmark import SPECIES, TinyProject, call_main

TASKS = ("pairs", "topology", "complexes", "go_modules", "essential_proteins")
FIGURES = ("evaluate.csv", "topology.csv", "functional.json")


@pytest.fixture(scope="module")
def judged(pretrained: tuple[TinyProject, Path]) -> tuple[TinyProject, Path, Path]:
    """A pretrained model judged on all tasks: the project, the model, the judgement's folder."""
    project, best = pretrained
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", *TASKS, "--set",
              "run_config.eval_run_id=all_tasks")  # fmt: skip
    return project, best, project.output / "logs" / "v3" / "evaluate" / "all_tasks"


def score_named(predictions: Predictions, pairs: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """The scores of pairs of ids, in their order."""
    names = sorted({name for pair in pairs for name in pair})
    places = np.array([[names.index(name) for name in pair] for pair in pairs])
    return predictions.scores_of(names, places)


def read_lines(logs: Path) -> list[str]:
    """The lines of a run's prediction file."""
    return gzip.decompress((logs / "predictions.txt.gz").read_bytes()).decode().splitlines()


def test_all_tasks_leave_their_figures_and_pictures(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    _, _, logs = judged
    assert sorted(path.name for path in logs.iterdir()) == [
        "audit.json", "calibration.png", "config.yaml", "degrees.png", "essential_proteins.png",
        "evaluate.csv",
        "evaluate_intervals.json", "functional.json",
        "log.log", "network.json", "predictions.txt.gz", "ranking.png", "scores.png",
        "topology.csv", "topology.png", "topology_ratios.csv",
    ]  # fmt: skip
    lines = (logs / "topology.csv").read_text().splitlines()
    assert lines[0] == (
        "scope,node_size,graph_count,graph_sim,relative_density,deg_dist_mmd,cc_mmd,"
        "laplacian_eigen_mmd"
    )
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["node_size", "8", "2"], ["node_size", "12", "1"], ["summary", "", "3"],
    ]  # fmt: skip
    functional = json.loads((logs / "functional.json").read_text())
    assert set(functional) == {"complexes", "go_modules", "essential_proteins"}
    assert functional["complexes"]["complex_count"] == 3


def test_every_pair_of_the_test_proteins_is_scored_once(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    _, _, logs = judged
    lines = read_lines(logs)
    assert len(lines) == 24 * 25 // 2
    assert len({tuple(sorted(line.split("\t")[:2])) for line in lines}) == len(lines)


def test_the_prediction_file_gives_the_same_figures_again(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    project, _, logs = judged
    copy = TinyProject(project.folder, logs / "config.yaml")
    call_main(copy, "evaluate.py", "--predictions", str(logs / "predictions.txt.gz"), "--set",
              "run_config.eval_run_id=from_file")  # fmt: skip
    again = logs.parent / "from_file"
    for name in FIGURES:
        assert (again / name).read_bytes() == (logs / name).read_bytes(), name


def test_the_order_of_lines_and_of_their_proteins_does_not_matter(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    project, _, logs = judged
    lines = read_lines(logs)
    turned = [line.split("\t") for line in reversed(lines)]
    file = tmp_path / "turned.txt"
    file.write_text("".join(f"{b} {a} {score}\n" for a, b, score in turned))
    copy = TinyProject(project.folder, logs / "config.yaml")
    call_main(copy, "evaluate.py", "--predictions", str(file), "--set",
              "run_config.eval_run_id=turned")  # fmt: skip
    for name in FIGURES:
        assert (logs.parent / "turned" / name).read_bytes() == (logs / name).read_bytes(), name


def test_pair_figures_are_those_of_the_labelled_test_pairs(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    """Computed here from the two files alone."""
    project, _, logs = judged
    scores = {}
    for line in read_lines(logs):
        a, b, score = line.split()
        scores[frozenset((a, b))] = float(score)
    test = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt"
    rows = [line.split() for line in test.read_text().splitlines()]
    expected = pair_metrics(
        np.array([scores[frozenset(row[:2])] for row in rows]),
        np.array([int(row[2]) for row in rows]),
    )
    header, first, *_ = (logs / "evaluate.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    assert {name: cells[name] for name in expected} == {
        name: "" if value is None else repr(value) for name, value in expected.items()
    }


def test_own_pairs_score_as_in_the_benchmark(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    project, best, logs = judged
    benchmark = read_predictions(logs / "predictions.txt.gz")
    pairs = [("P050", "P045"), ("P041", "P041"), ("P045", "P050"), ("P060", "P042")]
    (tmp_path / "mine.txt").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    output = tmp_path / "scores.tsv"
    score_own(project, best, tmp_path / "mine.txt", output)
    header, *lines = [line.split("\t") for line in output.read_text().splitlines()]
    assert header == ["protein_a", "protein_b", "probability", "call"]
    assert [(a, b) for a, b, _, _ in lines] == pairs
    expected = score_named(benchmark, pairs)
    assert [float(line[2]) for line in lines] == pytest.approx(expected, abs=1e-6)
    threshold = json.loads((best / "decision.json").read_text())["threshold"]
    assert [int(line[3]) for line in lines] == [int(score >= threshold) for score in expected]
    # Such a table can be judged in its turn: its probabilities are the scores.
    again = read_predictions(output)
    assert list(score_named(again, pairs)) == [float(line[2]) for line in lines]


def test_bfloat16_gives_nearly_the_same_scores(
    judged: tuple[TinyProject, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every GPU configuration launches with, here on the CPU."""
    project, best, logs = judged
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "topology",
              "--set", "run_config.eval_run_id=bf16")  # fmt: skip
    log = (logs.parent / "bf16" / "log.log").read_text()
    assert "mixed_precision=bf16" in log
    # The embeddings are those that were there: they do not depend on the precision.
    assert "computed=0" in log
    exact = read_predictions(logs / "predictions.txt.gz")
    rounded = read_predictions(logs.parent / "bf16" / "predictions.txt.gz")
    pairs = [line.split()[:2] for line in read_lines(logs)]
    difference = np.abs(score_named(exact, pairs) - score_named(rounded, pairs))
    assert 0 < difference.max() < 0.02


def test_bfloat16_trains_like_float32(
    judged: tuple[TinyProject, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, best, _ = judged
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    call_main(project, "pretrain.py", "--set", "run_config.pretrain_run_id=bf16")
    logs = [project.output / "logs/v3/pretrain" / name for name in (best.parent.name, "bf16")]
    tables = [(log / "training_step.csv").read_text().splitlines()[1:] for log in logs]
    losses = np.array([[row.split(",")[2:4] for row in table] for table in tables], dtype=float)
    assert losses.shape == (2, 2, 2)
    assert 0 < np.abs(losses[0] - losses[1]).max() < 0.01


def test_own_pairs_may_be_named_as_uniprot_does_and_packed(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """Ids copied from the FASTA's headers were not found in it."""
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text("sp|P041|SOME_TINY\tP042\n")
    linked = tmp_path / "linked"
    linked.mkdir()
    (tmp_path / "scores.tsv.gz").symlink_to(linked / "real.tsv.gz")
    score_own(project, best, tmp_path / "mine.txt", tmp_path / "scores.tsv.gz")
    assert (tmp_path / "scores.tsv.gz").is_symlink()
    _, line = gzip.decompress((linked / "real.tsv.gz").read_bytes()).decode().splitlines()
    assert line.split("\t")[:2] == ["P041", "P042"]


@pytest.mark.parametrize(
    "place", ["mine.txt", "folder", "pipe", "no/where.tsv", "link.tsv", "loop"]
)
def test_own_pairs_are_not_written_over_what_is_no_output(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, place: str
) -> None:
    """The pairs themselves, and a device, were replaced without a word."""
    project, best, _ = judged
    pairs = tmp_path / "mine.txt"
    pairs.write_text("P041\tP042\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.tsv").symlink_to(pairs)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"--output .* is .*; choose another file"):
        score_own(project, best, pairs, tmp_path / place)
    assert pairs.read_text() == "P041\tP042\n"
    assert (tmp_path / "pipe").is_fifo()


def score_own(project: TinyProject, best: Path, pairs: Path, output: Path, *arguments: str) -> None:
    """Own pairs by the checkpoint alone: the config of the project is not named."""
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--pairs", str(pairs), "--fasta",
              str(fasta), "--output", str(output), *arguments, config=False)  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "threshold"), [("value=0.0", 0.0), ("value=1.0", 1.0), ("mode=fixed", 0.5)]
)
def test_own_pairs_may_be_called_by_another_threshold(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, setting: str, threshold: float
) -> None:
    """What --set said was checked, and then not used."""
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text("P041\tP042\nP045\tP050\n")
    given = ["--set", f"evaluate.decision_threshold.{setting}"]
    score_own(project, best, tmp_path / "mine.txt", tmp_path / "scores.tsv", *given)
    _, *lines = (tmp_path / "scores.tsv").read_text().splitlines()
    for line in lines:
        *_, probability, call = line.split("\t")
        assert int(call) == (float(probability) >= threshold)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data_config.max_sequence_length=20", r"max_sequence_length is 20, but .* with 60"),
        ("data_config.embeddings.layer=1", r"embeddings\.layer is 1, but .* trained with -1"),
        ("data_config.embeddings.long=windows", r"is windows, but .* trained with truncate"),
        ("evaluate.decision_threshold={mode: fixed, value: 50.0}", r"value is 50\.0, but a model"),
    ],
)
def test_own_pairs_are_scored_as_the_model_was_trained(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, setting: str, message: str
) -> None:
    """Another layer gave other probabilities, and a threshold set by its section did nothing."""
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text("P041\tP042\n")
    with pytest.raises(UserError, match=message):
        score_own(project, best, tmp_path / "mine.txt", tmp_path / "out.tsv", "--set", setting)
    assert not (tmp_path / "out.tsv").exists()


def test_own_pairs_that_the_model_was_trained_on_are_counted(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project, best, _ = judged
    train = project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_train_ppi.txt"
    (a, b, _), *_ = (line.split() for line in train.read_text().splitlines())
    for text, line in (
        (f"{b} {a}\nP041 P042\n", f"WARNING training_pairs | says=1 of the pairs are training"
         f" pairs of the checkpoint ({' '.join(sorted((a, b)))})"),
        ("P041 P042\n", "INFO training_pairs | says=0 of the pairs are training pairs"),
    ):  # fmt: skip
        (tmp_path / "mine.txt").write_text(text)
        score_own(project, best, tmp_path / "mine.txt", tmp_path / "out.tsv")
        assert line in capsys.readouterr().err


def test_sequences_that_look_like_dna_are_told(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their letters are residues to a language model: a gene got a probability without a word."""
    project, best, _ = judged
    protein = "MKVLAAGITGTTTTACCCGGGAATTCCCGGGAAA"
    fasta, pairs = tmp_path / "mine.fasta", tmp_path / "mine.txt"
    fasta.write_text(f">gene\n{'ACGT' * 10}\n>short\nGAGA\n>protein\n{protein}\n")
    pairs.write_text("gene protein\nshort protein\n")
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--pairs", str(pairs), "--fasta",
              str(fasta), "--output", str(tmp_path / "out.tsv"), config=False)  # fmt: skip
    told = [line for line in capsys.readouterr().err.splitlines() if "look_like_dna" in line]
    assert len(told) == 1
    assert told[0].endswith("sequences_look_like_dna | sequences=1 | such_as=gene")


def test_an_output_where_one_may_not_write_is_told_first(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told after all had been embedded, by the name of a hidden file."""
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text("P041\tP042\n")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and allowed(path, mode))
    with pytest.raises(UserError, match="is in a folder that is not writable; choose another"):
        score_own(project, best, tmp_path / "mine.txt", tmp_path / "out.tsv")


def test_scores_that_are_not_finite_are_refused(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that overflows gave NaN for each own pair, and AUROC 0.5 on the benchmark."""
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text("P041\tP042\nP045\tP050\n")

    def overflow(*_arguments: object, **_keywords: object) -> NDArray[np.float32]:
        return np.array([np.nan, 0.5], dtype=np.float32)

    monkeypatch.setattr("common.inference.predictor.score_pairs", overflow)
    with pytest.raises(UserError, match="scores of 1 of 2 pairs are not finite"):
        score_own(project, best, tmp_path / "mine.txt", tmp_path / "out.tsv")
    assert not (tmp_path / "out.tsv").exists()


def test_a_model_judged_on_another_split_is_told(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """Test proteins of another split it may have seen in training: AUROC rose from 0.62 to 0.73."""
    project, best, _ = judged
    shutil.copytree(project.folder / "data" / SPECIES, tmp_path / "data" / SPECIES)
    folder = tmp_path / "data" / SPECIES
    (folder / "BFS").rename(folder / "DFS")
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "topology", "--set",
              f"data_config.benchmark.root_dir={tmp_path / 'data'}",
              "data_config.benchmark.split_strategy=DFS",
              "run_config.eval_run_id=elsewhere")  # fmt: skip
    log = (project.output / "logs" / "v3" / "evaluate" / "elsewhere" / "log.log").read_text()
    assert "WARNING benchmark_differs | trained_on=tiny BFS | now=tiny DFS" in log


def test_a_threshold_that_has_no_say_is_refused(judged: tuple[TinyProject, Path, Path]) -> None:
    project, best, _ = judged
    with pytest.raises(
        UserError, match=r"is ignored while the mode is best_f1_on_valid; .*mode=fixed too"
    ):
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--set",
                  "evaluate.decision_threshold.mode=best_f1_on_valid",
                  "evaluate.decision_threshold.value=0.9")  # fmt: skip


def test_the_saved_configuration_says_which_model_was_judged(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    """With it, a later evaluation judged whatever model was the newest by then."""
    _, best, logs = judged
    config = read_resolved_config(logs / "config.yaml")
    assert config.run.load_checkpoint_path == str(best)


def test_everybody_who_may_read_a_model_may_read_its_weights(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    """They were the owner's alone: a colleague's evaluation ended in a traceback."""
    _, best, _ = judged
    modes = {path.name: path.stat().st_mode for path in best.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


def test_complexes_do_not_depend_on_what_else_is_judged(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    """Self-pairs are scored for other tasks alone, and counted as recalled where they were."""
    project, best, logs = judged
    figures = []
    for name, tasks in (("alone", ["complexes"]), ("among", ["complexes", "topology"])):
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", *tasks, "--set",
                  f"run_config.eval_run_id={name}", "evaluate.decision_threshold.value=0.0"
                  )  # fmt: skip
        figures.append(json.loads((logs.parent / name / "functional.json").read_text()))
    assert figures[0] == figures[1]
    # All but the self-pairs of the true complexes.
    assert 0 < figures[0]["complexes"]["pathway_recall"] < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("P041\tP042\nP041\tQ999\n", r"mine.txt, line 2: .*simple.fasta has no sequence of 'Q999'"),
        ("P041\n", r"mine.txt, line 1: 'P041' is not 'protein_a protein_b' \(columns separated"),
        (
            "a b label\n",
            r"line 1: .*no sequence of 'a' and of 1 more .b., which affects 1 of 1 pairs",
        ),
        ("P041, P042\nP041, X\n", r"mine.txt, line 2: .*no sequence of 'X'"),
        ("P041 P042\f\nP041 X\n", r"mine.txt, line 2: .*no sequence of 'X'"),
        ("", r"mine.txt contains no pairs"),
    ],
)
def test_own_pairs_that_cannot_be_scored_are_named(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path, content: str, message: str
) -> None:
    project, best, _ = judged
    (tmp_path / "mine.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        score_own(project, best, tmp_path / "mine.txt", tmp_path / "scores.tsv")
    assert not (tmp_path / "scores.tsv").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "c", "--pairs", "p", "--fasta", "f", "--output", "o", "--checkpoint", "d"],
        ["--pairs", "p", "--fasta", "f", "--checkpoint", "d"],
        ["--pairs", "p", "--fasta", "f", "--output", "o"],
        ["--config", "c", "--predictions", "f", "--checkpoint", "d"],
        [],
    ],
)
def test_arguments_that_do_not_belong_together_are_refused(
    project: TinyProject, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_main(project, "evaluate.py", *arguments, config=False)
    assert ended.value.code == 2
    assert "evaluate.py: error: " in capsys.readouterr().err


def test_functional_tasks_without_their_folder_say_which_key(
    pretrained: tuple[TinyProject, Path],
) -> None:
    project, best = pretrained
    with pytest.raises(UserError, match=r"functional_dir is not set, but the task go_modules"):
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "go_modules",
                  "--set", "data_config.benchmark.functional_dir=null")  # fmt: skip


def test_a_prediction_file_needs_no_torch(
    judged: tuple[TinyProject, Path, Path],
) -> None:
    """It starts fast only as long as nothing on its way imports torch or transformers."""
    project, _, logs = judged
    finished = project.run_code(
        "import sys, runpy\n"
        f"sys.argv = ['evaluate.py', '--config', {str(logs / 'config.yaml')!r}, '--predictions',"
        f" {str(logs / 'predictions.txt.gz')!r}, '--set', 'run_config.eval_run_id=light']\n"
        "sys.path.insert(0, ROOT)\n"
        "try: runpy.run_path(ROOT + '/evaluate.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers', 'accelerate'} & set(sys.modules)\n"
    )
    assert finished.code == 0, finished.stderr


def test_other_species_get_rows_of_their_own(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """A species that is all test, laid out flat, with node sets of two strategies."""
    project, best, _ = judged
    other = tmp_path / "data" / "other"
    shutil.copytree(project.folder / "data" / SPECIES, tmp_path / "data" / SPECIES)
    shutil.copytree(project.folder / "data" / SPECIES / "BFS", other)
    for file in other.iterdir():
        file.rename(other / file.name.replace(SPECIES, "other"))
    sets = (other / "test_sampled_nodes.pkl").rename(other / "other_BFS_sampled_nodes.pkl")
    shutil.copy(sets, other / "other_DFS_sampled_nodes.pkl")
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    shutil.copy(fasta, other / "other_simple.fasta")
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "pairs", "topology",
              "--set", "run_config.eval_run_id=transfer", "evaluate.cross_species=[other]",
              f"data_config.benchmark.root_dir={tmp_path / 'data'}")  # fmt: skip
    logs = project.output / "logs" / "v3" / "evaluate" / "transfer"
    rows = [line.split(",") for line in (logs / "evaluate.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == [
        "test", "test_without_self_pairs", "test_seen0", "test_length_upto_400",
        "test_identity_below_30", "test_other", "test_other_without_self_pairs",
    ]  # fmt: skip
    # Here all pairs are of one class of each kind.
    assert all(row[1:] == rows[0][1:] for row in rows[2:6])
    trained_on = json.loads((logs / "audit.json").read_text())["trained_on"]
    assert {name: found["count"] for name, found in trained_on.items()} == {"tiny": 0, "other": 0}
    for name in ("topology.other.BFS.csv", "topology.other.DFS.csv"):
        assert (logs / name).read_bytes() == (logs / "topology.csv").read_bytes()


def write_flat(folder: Path, strategies: Sequence[str]) -> Config:
    """A species that is all test, with a node set for each strategy, and a config that names it."""
    folder.mkdir(parents=True)
    graph = nx.Graph([("A", "B"), ("C", "C")])
    (folder / "flat_test_graph.pkl").write_bytes(pickle.dumps(graph))
    for strategy in strategies:
        sets = {2: [{"A", strategy[0]}]}
        (folder / f"flat_{strategy}_sampled_nodes.pkl").write_bytes(pickle.dumps(sets))
    settings = BenchmarkConfig(root_dir=str(folder.parent), species="flat", split_strategy="DFS")
    return Config(
        data_config=DataConfig(benchmark=settings), evaluate=EvaluateConfig(tasks=("topology",))
    )


@pytest.mark.parametrize(
    ("asked", "looked_at"),
    [("all", ["DFS", "BFS"]), (("BFS", "DFS"), ["DFS", "BFS"]), (("BFS",), ["BFS"])],
)
def test_topology_looks_at_the_strategies_asked_for_the_configured_one_first(
    tmp_path: Path, asked: Any, looked_at: list[str]
) -> None:
    """The first is what topology.csv holds; it was always BFS."""
    config = write_flat(tmp_path / "flat", ["BFS", "DFS"])
    evaluate = config.evaluate.model_copy(update={"strategies": asked})
    side = test_side.open_test_side(config.model_copy(update={"evaluate": evaluate}))
    task = side.tasks["topology"]
    assert isinstance(task, Topology)
    assert [strategy for _, strategy, _ in task.samples] == looked_at


def test_a_strategy_without_node_sets_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    config = write_flat(tmp_path / "flat", ["DFS"])
    asked = config.evaluate.model_copy(update={"strategies": ("BFS", "DFS")})
    with pytest.raises(
        UserError, match=r"evaluate\.strategies lists BFS, but flat has no BFS node sets"
    ):
        test_side.open_test_side(config.model_copy(update={"evaluate": asked}))


def test_pairs_that_are_not_listed_count_as_surely_not() -> None:
    table = PairTable(("A", "B", "C"), np.array([[0, 1], [1, 2], [2, 2]]), np.ones(3, np.int8))
    listed = Predictions.gather(("A", "B"), np.array([[1, 0]]), np.array([0.7]))
    scores, missing = scores_of_table(table, listed, 0.5)
    assert scores.tolist() == [0.7, 0.0, 0.0]
    assert missing == 2
    below = Predictions.gather(("A", "B"), np.array([[1, 0]]), np.array([-3.0]))
    assert scores_of_table(table, below, 0.5)[0].tolist() == [-3.0, -3.0, -3.0]


@pytest.mark.parametrize("threshold", [0.0, -2.0])
def test_pairs_that_are_not_listed_are_called_at_no_threshold(threshold: float) -> None:
    """At the threshold 0, the natural one of logits, their 0 was a call: recall was 1."""
    table = PairTable(("A", "B", "C"), np.array([[0, 1], [1, 2]]), np.ones(2, np.int8))
    listed = Predictions.gather(("A", "B"), np.array([[0, 1]]), np.array([0.7]))
    scores, _ = scores_of_table(table, listed, threshold)
    assert call_pairs(scores, threshold).tolist() == [True, False]


def test_test_pairs_that_are_dropped_count_in_no_figure(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """They were judged as not predicted. A model and its own file get the figures of the rest."""
    project, best, _ = judged
    data = tmp_path / "data"
    shutil.copytree(project.folder / "data", data)
    fasta = data / SPECIES / f"{SPECIES}_simple.fasta"
    fasta.write_text("".join(f">{part}" for part in fasta.read_text().split(">")[1:]
                             if not part.startswith("P045")))  # fmt: skip
    pairs = data / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt"
    there = f"data_config.benchmark.root_dir={data}"
    drop = "data_config.benchmark.missing_sequences=drop"
    logs = project.output / "logs" / "v3" / "evaluate"
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "pairs", "--set",
              "run_config.eval_run_id=dropped", there, drop)  # fmt: skip
    log = (logs / "dropped" / "log.log").read_text()
    assert f"{SPECIES}_dropped=" in log
    assert "pairs of 1 proteins without a sequence (P045)" in log
    assert "not listed" not in log
    copy = TinyProject(project.folder, logs / "dropped" / "config.yaml")
    call_main(copy, "evaluate.py", "--predictions", str(logs / "dropped" / "predictions.txt.gz"),
              "--tasks", "pairs", "--set", "run_config.eval_run_id=dropped-file")  # fmt: skip
    kept = [line for line in pairs.read_text().splitlines(True) if "P045" not in line]
    assert len(kept) < len(pairs.read_text().splitlines())
    pairs.write_text("".join(kept))
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--tasks", "pairs", "--set",
              "run_config.eval_run_id=without", there)  # fmt: skip
    tables = [
        (logs / name / "evaluate.csv").read_bytes()
        for name in ("dropped", "dropped-file", "without")
    ]
    assert tables[0] == tables[1] == tables[2]


def test_predictions_in_another_naming_are_refused(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """Gene names for accessions looked like a predictor that knows nothing: AUROC 0.5."""
    project, _, _ = judged
    (tmp_path / "p.txt").write_text("BRCA1 TP53 0.9\n")
    with pytest.raises(UserError, match=r"names two of the 24 proteins .*'BRCA1'.*'P040'; convert"):
        call_main(
            project, "evaluate.py", "--predictions", str(tmp_path / "p.txt"), "--tasks", "pairs"
        )


@pytest.mark.parametrize("task", ["complexes", "go_modules", "essential_proteins"])
def test_functional_data_of_another_species_are_refused_before_scoring(
    project: TinyProject, task: str
) -> None:
    """Two million pairs were scored first."""
    folder = project.folder / "functional"
    (folder / "test_go_terms.pkl").write_bytes(pickle.dumps({"X": {"go_p": ["GO:1"]}}))
    (folder / "selected_essential_proteins.txt").write_text("X\n")
    (folder / "complex_graphs.pkl").write_bytes(pickle.dumps([nx.Graph([("X", "Y")])]))
    config = load_config(project.config, "evaluate", [f"evaluate.tasks=[{task}]"])
    with pytest.raises(
        UserError, match=r"functional_dir .* does not fit tiny BFS: no.* the same species"
    ):
        test_side.open_test_side(config)


def test_complexes_may_have_proteins_that_the_species_lacks(project: TinyProject) -> None:
    """Of 397 proteins of the benchmark's complexes, its own human sequences have 75."""
    graphs = [nx.Graph([("X", "P040")])]
    (project.folder / "functional/complex_graphs.pkl").write_bytes(pickle.dumps(graphs))
    config = load_config(project.config, "evaluate", ["evaluate.tasks=[complexes]"])
    assert test_side.open_test_side(config).proteins() == {"X", "P040"}


def test_a_functional_folder_that_is_not_there_is_named_with_its_key(project: TinyProject) -> None:
    there = "data_config.benchmark.functional_dir=/nowhere"
    config = load_config(project.config, "evaluate", ["evaluate.tasks=[complexes]", there])
    with pytest.raises(
        UserError, match=r"functional_dir \(/nowhere\) is not an existing directory"
    ):
        test_side.open_test_side(config)


def test_a_protein_with_two_sequences_is_refused(project: TinyProject) -> None:
    fasta = project.folder / "functional" / "complex_proteins.fasta"
    fasta.write_text(">P040\nLAGV\n" + fasta.read_text().split(">P041")[0].split(">P040")[0])
    config: Config = load_config(project.config, "evaluate", ["evaluate.tasks=[complexes]"])
    with pytest.raises(UserError, match=r"P040 has different sequences in tiny and in the compl"):
        test_side.open_test_side(config).sequences()


def test_infinite_scores_rank_above_and_below_all_others(
    judged: tuple[TinyProject, Path, Path], tmp_path: Path
) -> None:
    """One of them in a file ended in a traceback."""
    project, _, logs = judged
    figures = []
    for high, low in (("inf", "-inf"), ("7", "-7")):
        lines = [line.split() for line in read_lines(logs)]
        lines[0][2], lines[1][2] = high, low
        file = tmp_path / f"{high}.txt"
        file.write_text("".join(" ".join(line) + "\n" for line in lines))
        copy = TinyProject(project.folder, logs / "config.yaml")
        run_id = f"run_config.eval_run_id=high-{high}"
        call_main(
            copy, "evaluate.py", "--predictions", str(file), "--tasks", "pairs", "--set", run_id
        )
        figures.append((logs.parent / f"high-{high}" / "evaluate.csv").read_bytes())
    assert figures[0] == figures[1]
