"""Comparing runs: what is read back from them, which belong into one table, what is left out."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import Config
from common.data.pair_hashes import digest_pairs
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.evaluation.runs.comparing import compare_runs
from common.evaluation.runs.grouping import group_runs, label_runs
from common.evaluation.runs.judged import JudgedRun, Side, find_runs, read_run
from tests.tiny_benchmark import ROOT, TinyProject, call_main, run_command

SIDE = "pairs_digest=0123456789abcdef | network_digest=fedcba9876543210"
LOG = """2026-01-02 03:04:05 INFO pipeline_bootstrap | stage=evaluate | run_id={id} | commit=abc+
2026-01-02 03:04:06 INFO data_ready | strategy=BFS | human=9 test pairs | {side}
2026-01-02 03:04:07 INFO model_ready | {model}
2026-01-02 03:04:08 INFO stage_start | tasks=pairs | threshold=0.5 | threshold_mode=fixed
"""


def leave_run(folder: Path, side: str = SIDE, model: str = "model=v3", **run: Any) -> Path:
    """Write what a run of evaluate.py leaves."""
    folder.mkdir(parents=True)
    (folder / "log.log").write_text(LOG.format(id=folder.name, side=side, model=model))
    (folder / "config.yaml").write_text(Config.model_validate({"run_config": run}).to_yaml())
    (folder / "evaluate.csv").write_text(
        "split,auroc,auprc,mcc\ntest,0.75,0.5,\ntest_without_self_pairs,0.625,,0.1\n"
    )
    (folder / "topology.csv").write_text(
        "scope,node_size,graph_sim,relative_density\nnode_size,20,0.1,9.0\nsummary,,0.25,1.5\n"
    )
    return folder


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_one_row(tmp_path: Path) -> None:
    model = tmp_path / "models/v3/finetune/a/best_model"
    model.mkdir(parents=True)
    trained = Config.model_validate({"run_config": {"seed": 5}})
    (model / "config.yaml").write_text(trained.to_yaml())
    folder = leave_run(tmp_path / "evaluate" / "one", load_checkpoint_path=str(model))
    parts = compare_runs([folder], tmp_path)
    assert read_rows(tmp_path / "compare.csv") == [
        {
            "test_side": "1",
            "run": "one",
            "model": "v3 (finetune)",
            "seed": "5",
            "data": "pring human",
            "split": "BFS",
            "language_model": "facebook/esm2_t33_650M_UR50D",
            "auroc": "0.75",
            "auprc": "0.5",
            "auroc_without_self_pairs": "0.625",
            "graph_similarity": "0.25",
            "relative_density": "1.5",
            "threshold_mode": "fixed",
            "commit": "abc+",
            "date": "2026-01-02 03:04:05",
            "directory": str(folder),
        }
    ]
    heading, shared, header, *rows = parts[0].splitlines()
    assert heading == "1. test data of pring human BFS"
    assert shared == "language model esm2_t33_650M_UR50D; threshold mode fixed; commit abc+"
    assert "language_model" not in header  # since all rows have the same
    assert next(row.split()[0] for row in rows if row) == "one"
    assert parts[-1] == f"Table   {tmp_path / 'compare.csv'}\nReport  {tmp_path / 'compare.html'}"
    page = (tmp_path / "compare.html").read_text()
    assert f"{folder / 'predictions.txt.gz'} does not exist." in page
    assert "v3 (finetune)" in page
    # Fifteen columns beside each other did not fit on a screen.
    short, full = re.findall(r"<thead>.*</thead>", page)
    assert (short.count("<th "), full.count("<th ")) == (9, 15)
    assert page.count("esm2_<wbr>t33_<wbr>650M_<wbr>UR50D</td>") == 1  # in the full table
    assert "<svg" not in page


def test_a_judged_file_is_named_and_has_no_language_model(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "evaluate" / "one", model="predictions=/data/theirs.tsv.gz")
    run = read_run(folder)
    assert (run.model, run.language_model, run.seed) == ("theirs.tsv.gz", None, None)
    assert read_run(leave_run(tmp_path / "two", load_checkpoint_path="gone")).seed is None


def test_what_the_rows_do_not_share_is_a_column(tmp_path: Path) -> None:
    folders = [
        leave_run(tmp_path / "evaluate" / "one"),
        leave_run(tmp_path / "evaluate" / "two", model="predictions=theirs.tsv"),
    ]
    (_, shared, *_), *_ = (part.splitlines() for part in compare_runs(folders, tmp_path))
    text = "\n".join(compare_runs(folders, tmp_path))
    assert shared == "threshold mode fixed; commit abc+"
    assert "language_model" in text
    assert "theirs.tsv" in text


OTHER_SIDES = {
    "pairs": SIDE.replace("0123", "4123"),
    "network": SIDE.replace("fedc", "0edc"),
    "dropped pairs": f"human_dropped=3 pairs of 1 protein without a sequence (A) | {SIDE}",
    "unknown files": "",
}


@pytest.mark.parametrize("case", OTHER_SIDES)
def test_other_test_sides_are_other_tables(tmp_path: Path, case: str) -> None:
    """Numbers of different test pairs below each other would be read as a comparison."""
    folders = [
        leave_run(tmp_path / "evaluate" / "a"),
        leave_run(tmp_path / "evaluate" / "b", side=OTHER_SIDES[case]),
        leave_run(tmp_path / "evaluate" / "c"),
    ]
    warning, first, second, _ = compare_runs(folders, tmp_path)
    assert warning.startswith("These runs were evaluated on 2 different test data sets;")
    assert ("differ in the content of their files" in warning) == (case in ("pairs", "network"))
    assert [row["test_side"] for row in read_rows(tmp_path / "compare.csv")] == ["1", "1", "2"]
    assert (first[:2], second[:2]) == ("1.", "2.")
    assert "\nb " in second
    if case == "unknown files":
        assert "digests of the files were not recorded" in second
    if case == "dropped pairs":
        assert "human BFS, without 3 pairs of 1 protein without a sequence\n" in second


@pytest.mark.parametrize("field", ["benchmark", "species", "strategy"])
def test_another_benchmark_is_another_test_side(field: str) -> None:
    side = Side("pring", "human", "BFS", "", "p", "n")
    assert side.same(side)
    assert not side.same(replace(side, **{field: "other"}))


def test_a_run_that_used_no_network_is_beside_one_that_did(tmp_path: Path) -> None:
    """But it does not bring two runs on different networks into one table."""
    sides = (SIDE.partition(" | ")[0], SIDE, SIDE.replace("fedc", "0edc"))
    runs = [
        read_run(leave_run(tmp_path / name, side=side))
        for name, side in zip("abc", sides, strict=True)
    ]
    groups = group_runs(runs)
    assert [[run.directory.name for run in group.runs] for group in groups] == [["a", "b"], ["c"]]
    assert groups[0].side.network == "fedcba9876543210"


def test_what_is_no_finished_run_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    leave_run(tmp_path / "runs/logs/v3/evaluate/good")
    failed = leave_run(tmp_path / "runs/logs/v3/evaluate/failed")
    for name in ("config.yaml", "evaluate.csv"):
        (failed / name).unlink()
    with (failed / "log.log").open("a") as log:
        log.write(
            "2026-01-02 03:04:09 ERROR stage_failed | stage=evaluate | rank=0 | reason=full\n"
        )
    networks = leave_run(tmp_path / "runs/logs/v3/evaluate/networks")
    (networks / "evaluate.csv").unlink()
    damaged = leave_run(tmp_path / "runs/logs/v3/evaluate/damaged")
    (damaged / "evaluate.csv").write_text("split,auroc\ntest,high\n")
    training = leave_run(tmp_path / "runs/logs/v3/pretrain/one")
    other = (training / "log.log").read_text().replace("stage=evaluate", "stage=pretrain")
    (training / "log.log").write_text(other)
    parts = compare_runs([tmp_path / "runs", training], tmp_path)
    assert parts[1:-1] == [
        f"Left out: {damaged / 'evaluate.csv'} is damaged; run evaluate.py again.",
        f"Left out: {failed} did not complete: full.",
        f"Left out: {networks} has no evaluate.csv, because the run's tasks did not include pairs.",
        f"Left out: {training} is a run of pretrain.py, but only runs of evaluate.py can be"
        " compared.",
    ]
    assert [row["run"] for row in read_rows(tmp_path / "compare.csv")] == ["good"]
    with pytest.raises(UserError, match=r"runs can be compared: .*/failed did not complete: full$"):
        compare_runs([failed], tmp_path)


def test_places_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--compare .*nowhere is not an existing folder"):
        list(find_runs([tmp_path / "nowhere"]))
    with pytest.raises(UserError, match=r"--compare .* contains no run of evaluate\.py; name a"):
        list(find_runs([tmp_path]))


def test_a_run_that_is_named_twice_is_one_row(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "evaluate" / "one")
    assert list(find_runs([folder, tmp_path, folder])) == [folder]


def test_the_last_launch_of_a_log_counts(tmp_path: Path) -> None:
    """A start that failed under the same id comes first in the log."""
    folder = leave_run(tmp_path / "one")
    log = (folder / "log.log").read_text()
    older = log.replace("03:04", "01:01").replace("0123", "9999").replace("abc+", "older")
    (folder / "log.log").write_text(older + log)
    run = read_run(folder)
    assert (run.started, run.side.pairs) == ("2026-01-02 03:04:05", "0123456789abcdef")


def test_runs_of_the_same_id_are_told_apart(tmp_path: Path) -> None:
    places = ("a/logs/v3/evaluate/x", "a/logs/pooled/evaluate/x", "b/logs/v3/evaluate/x")
    runs = [read_run(leave_run(tmp_path / place)) for place in places]
    assert list(label_runs(runs).values()) == ["a/v3/x", "a/pooled/x", "b/v3/x"]


def test_an_older_table_is_not_replaced_silently(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "evaluate" / "one")
    assert "replaced" not in compare_runs([folder], tmp_path / "mine.csv")[-1]
    again = compare_runs([folder], tmp_path / "mine.csv")[-1]
    assert again.count("(an older file was replaced)") == 2
    assert f"{tmp_path / 'mine.html'} (an" in again
    for wrong in ("mine.txt", "nowhere/mine.csv"):
        with pytest.raises(UserError, match=r"--output .* must be an existing folder, or a "):
            compare_runs([folder], tmp_path / wrong)


@pytest.mark.launch
def test_comparing_needs_no_torch(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "evaluate" / "one")
    code = (
        f"import sys, runpy; sys.argv = ['evaluate.py', '--compare', {str(folder)!r}]\n"
        f"try: runpy.run_path({str(ROOT / 'evaluate.py')!r}, run_name='evaluate')['main']()\n"
        "finally: assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    finished = run_command([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(ROOT))
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "compare.csv").is_file()
    assert "\x1b" not in finished.stdout


def digest(rows: list[tuple[int, int, int]]) -> str:
    table = np.array(rows)
    return digest_pairs(
        PairTable(("A", "B", "C"), table[:, :2].astype(np.int32), table[:, 2].astype(np.int8))
    )


def test_a_digest_depends_on_pairs_and_labels_alone() -> None:
    rows = [(0, 1, 1), (0, 2, 0), (1, 1, 1)]
    assert digest(rows) == digest([(1, 1, 1), (2, 0, 0), (0, 1, 1)])
    others = [rows[:2], [*rows, rows[0]], [(0, 1, 0), *rows[1:]], [(0, 0, 1), *rows[1:]]]
    assert len({digest(rows), *map(digest, others)}) == 5


def judge_file(project: TinyProject, file: Path, run_id: str) -> JudgedRun:
    call_main(
        project, "evaluate.py", "--predictions", str(file), "--tasks", "pairs", "topology",
        "--set", f"run_config.eval_run_id={run_id}", "evaluate.intervals.resamples=0",
    )  # fmt: skip
    return read_run(project.output / "logs" / "v3" / "evaluate" / run_id)


def test_real_runs_are_grouped_by_the_files_that_they_were_judged_on(
    project: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = project.folder / "data/tiny/BFS/tiny_test_ppi.txt"
    file = tmp_path / "theirs.tsv"
    shutil.copy(test, file)
    first = judge_file(project, file, "first")
    assert first.mode == "fixed"
    lines = test.read_text().splitlines(keepends=True)
    test.write_text("".join(reversed(lines)))
    second = judge_file(project, file, "second")
    test.write_text("".join(lines[1:]))
    third = judge_file(project, file, "third")
    assert first.side.network
    assert len(first.side.pairs) == 16
    assert [len(group.runs) for group in group_runs([first, second, third])] == [2, 1]
    capsys.readouterr()
    call_main(project, "evaluate.py", "--compare", str(project.output), "--output", str(tmp_path),
              config=False)  # fmt: skip
    shown = capsys.readouterr().out
    assert "1. test data of pring tiny BFS\n" in shown
    assert "2. test data of pring tiny BFS\n" in shown
    assert {row["auroc"] for row in read_rows(tmp_path / "compare.csv")} == {"1.0"}
    page = (tmp_path / "compare.html").read_text()
    assert page.count("<svg") == 2  # the curves of the third run alone
    assert ">third, AUROC 1.000" in page
    assert "first are not shown, because the test pairs have changed since the run." in page
    assert page.count(" are not shown, because ") == 2
    test.write_text("".join(lines))
    call_main(project, "evaluate.py", "--compare", str(project.output), "--output", str(tmp_path),
              config=False)  # fmt: skip
    page = (tmp_path / "compare.html").read_text()
    assert page.count("<svg") == 2  # the ROC and the precision-recall curve of two runs
    assert ">first, AUROC 1.000" in page
    assert ">second, AUROC 1.000" in page
    assert "The curves of third are not shown" in page
    file.write_text(file.read_text().replace("1\n", "0\n", 1))
    call_main(project, "evaluate.py", "--compare", str(project.output), "--output", str(tmp_path),
              config=False)  # fmt: skip
    assert "because its recorded AUROC is 1.0, but " in (tmp_path / "compare.html").read_text()
    with pytest.raises(UserError, match="--set has no effect with --compare"):
        call_main(project, "evaluate.py", "--compare", "x", "--set", "a.b=1", config=False)
