"""The leaderboard: small fake runs are read, ranked, averaged and printed."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.leaderboard import average_ranks, note, predict
from benchmarks.leaderboard_table import HEADER, PUBLISHED, format_seconds, render
from common.config import Config
from common.errors import UserError
from common.evaluation.predictions import Predictions

TOPOLOGY = "scope,node_size,graph_count,graph_sim,relative_density,deg_dist_mmd,cc_mmd,laplacian\n"
RATIOS = "scope,node_size,graph_count,deg_dist_mmd_ratio,cc_mmd_ratio,laplacian_eigen_mmd_ratio\n"


def fake_run(root: Path, method: str, seed: int, plain: float, **evaluate: object) -> Path:
    """A judged run whose AUPRC without self-pairs is `plain`, and whose other metrics follow."""
    run = root / method / f"seed{seed}"
    judged = run / "logs" / "factorised" / "evaluate" / "run"
    trained = run / "logs" / "factorised" / "pretrain" / "run"
    judged.mkdir(parents=True)
    trained.mkdir(parents=True)
    note(run, method, **({"seconds": 7.0} if method == "composition" else {}))
    config = {
        "data_config": {"embeddings": {"model_name": "/models/esm8"}},
        "evaluate": evaluate,
    }
    (judged / "config.yaml").write_text(Config.model_validate(config).to_yaml())

    def metrics(value: float) -> dict[str, object]:
        interval = {"value": value, "low": value - 0.02, "high": value + 0.02, "undefined": 0}
        return {"metrics": {"auroc": {"value": value - 0.1}, "auprc": interval}}

    content = {
        "splits": {"test": metrics(plain + 0.03), "test_without_self_pairs": metrics(plain)},
        "differences": {
            "composition": {"auprc_without_self_pairs": {"value": 0.05, "low": -0.01, "high": 0.11}}
        },
    }
    (judged / "evaluate_intervals.json").write_text(json.dumps(content))
    rows = f"node_size,20,5,0.9,0.9,0,0,0\nsummary,,10,{plain / 2},1.25,0.1,0.2,0.3\n"
    (judged / "topology.csv").write_text(TOPOLOGY + rows)
    (judged / "topology_ratios.csv").write_text(RATIOS + "summary,,10,4.5,,6.5\n")
    (judged / "topology.human.DFS.csv").write_text(TOPOLOGY + "summary,,10,0.3,2.5,0,0,0\n")
    functional = {
        "complexes": {"pathway_recall": 0.5, "pathway_precision": 0.75, "pathway_connectivity": 1},
        "essential_proteins": {"precision_at_100_ties_shared": 0.625, "distribution_overlap": None},
    }
    (judged / "functional.json").write_text(json.dumps(functional))
    (trained / "training_step.csv").write_text("Epoch,Epoch Time\n1,100.5\n2,99.5\n")
    return run


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def board(tmp_path: Path) -> Path:
    fake_run(tmp_path, "pooled", 47, 0.6)
    fake_run(tmp_path, "factorised", 47, 0.64)
    fake_run(tmp_path, "factorised", 48, 0.70)
    fake_run(tmp_path, "composition", 47, 0.66)
    return tmp_path


def test_the_file_has_every_run_and_the_spread_over_seeds(board: Path) -> None:
    render(board)
    rows = rows_of(board)
    assert list(rows[0]) == list(HEADER)
    # By the mean AUPRC without self-pairs: 0.67, 0.66 and 0.60.
    assert [(row["rank"], row["method"], row["seed"]) for row in rows] == [
        ("1", "factorised", "47"), ("1", "factorised", "48"), ("1", "factorised", "mean"),
        ("1", "factorised", "min"), ("1", "factorised", "max"), ("2", "composition", "47"),
        ("3", "pooled", "47"),
    ]  # fmt: skip
    assert [row["auprc_without_self_pairs"] for row in rows[:2]] == ["0.64", "0.7"]
    mean, low, high = rows[2:5]
    assert float(mean["auprc_without_self_pairs"]) == pytest.approx(0.67)
    assert float(low["auprc"]) == pytest.approx(0.67)
    assert float(high["graph_sim_BFS"]) == pytest.approx(0.35)
    assert (mean["relative_density_BFS"], mean["relative_density_DFS"]) == ("1.25", "2.5")
    # A ratio or a metric that is undefined, and node sets that were not judged, are empty cells.
    assert (mean["deg_dist_mmd_ratio_BFS"], mean["cc_mmd_ratio_BFS"]) == ("4.5", "")
    assert (mean["graph_sim_RANDOM_WALK"], mean["distribution_overlap"]) == ("", "")
    # The two epochs of a model; what a baseline has noted.
    assert [row["seconds"] for row in rows[:1] + rows[5:6]] == ["200.0", "7.0"]
    assert [row["language_model"] for row in rows[4:6]] == ["esm8", "none"]


def test_the_table_for_people_has_ranges_intervals_and_published_rows(board: Path) -> None:
    lines = render(board).splitlines()
    assert (board / "leaderboard.md").read_text().splitlines() == lines
    assert lines[2] == (
        "| 1 | factorised | esm8 | 0.700 (0.670 to 0.730) | 0.670 (0.640 to 0.700) |"
        " 0.335 (0.320 to 0.350), 1.25 | 0.300 (0.300 to 0.300), 2.50 | - | 3 min |"
    )
    assert lines[3].startswith("| 2 | composition | none | 0.690 | 0.660 |")
    text = "\n".join(lines)
    assert "|  | *PLM-interact* | ESM-2 650M | 0.707 | - | 0.396, 1.64 | 0.350, 2.03 |" in text
    assert (
        "| factorised | 47 48 | 0.600 (0.570 to 0.630) | 0.570 (0.540 to 0.600) |"
        " 0.670 [0.650, 0.690] | 0.640 [0.620, 0.660] | +0.050 [-0.010, +0.110] |"
    ) in lines
    assert (
        "| pooled | 4.5 / - / 6.5 | - / - / - | - / - / - | 0.500 / 0.750 / 1.000 | - / - |"
        " 0.625 / - |"
    ) in lines


def test_other_species_have_rows_of_their_own(board: Path) -> None:
    """Each evaluation that is named after a species is one row of the first seed's model."""
    other = fake_run(board / "elsewhere", "x", 1, 0.5)
    evaluations = board / "pooled" / "seed47" / "logs" / "factorised" / "evaluate"
    shutil.move(other / "logs" / "factorised" / "evaluate" / "run", evaluations / "yeast")
    shutil.rmtree(board / "elsewhere")
    lines = render(board).splitlines()
    assert [line for line in lines if "| yeast |" in line] == [
        "| pooled | yeast | 0.430 | 0.530 [0.510, 0.550] | 0.500 [0.480, 0.520] | 0.250, 1.25 |"
        " 0.300, 2.50 | - |"
    ]
    assert [row["auprc"] for row in rows_of(board) if row["method"] == "pooled"] == ["0.63"]


def test_a_table_of_another_first_strategy(tmp_path: Path) -> None:
    """`topology.csv` belongs to the first judged strategy, not always to BFS."""
    fake_run(tmp_path, "pooled", 47, 0.6, strategies=("RANDOM_WALK", "DFS"))
    render(tmp_path)
    (row,) = rows_of(tmp_path)
    assert (row["graph_sim_RANDOM_WALK"], row["graph_sim_DFS"], row["graph_sim_BFS"]) == (
        "0.3", "0.3", "",
    )  # fmt: skip
    assert row["relative_density_RANDOM_WALK"] == "1.25"


def test_a_metric_that_one_seed_lacks_has_no_mean(board: Path) -> None:
    next(board.glob("factorised/seed48/logs/*/evaluate/run/topology.human.DFS.csv")).unlink()
    render(board)
    assert [row["graph_sim_DFS"] for row in rows_of(board)][:5] == ["0.3", "", "", "", ""]


def test_a_run_that_is_not_judged_has_no_row(board: Path) -> None:
    for judged in board.glob("*/seed*/logs/*/evaluate/run/config.yaml"):
        if "pooled" not in judged.parts:
            judged.unlink()
    render(board)
    assert [row["method"] for row in rows_of(board)] == ["pooled"]
    next(board.glob("pooled/seed47/logs/*/evaluate/run/config.yaml")).unlink()
    with pytest.raises(UserError, match="contains no evaluated run"):
        render(board)


def test_every_published_row_has_a_source_and_says_what_differs() -> None:
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert all(row["source"] and row["not_comparable"] for row in rows)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.0, "-"), (119.0, "119 s"), (120.0, "2 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def scored(*scores: float) -> Predictions:
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    return Predictions.gather(["A", "B", "C"], pairs, np.array(scores))


def test_an_ensemble_averages_ranks_whatever_the_scales() -> None:
    """Ranks 1, 2, 3 and 2.5, 1, 2.5 (a tie) of 3 pairs."""
    mean = average_ranks([scored(0.1, 0.2, 0.3), scored(50, -7, 50)], [Path("a"), Path("b")])
    assert mean.scores == pytest.approx([1.75 / 3, 1.5 / 3, 2.75 / 3])
    other = Predictions.gather(["A", "B"], np.array([[0, 1]]), np.array([1.0]))
    with pytest.raises(UserError, match="predictions of b and a list different pairs"):
        average_ranks([scored(1, 2, 3), other], [Path("a"), Path("b")])


def test_an_ensemble_calls_as_many_pairs_as_its_members(tmp_path: Path) -> None:
    """They call 2 and 0 of 3 pairs, so it calls the one that is best on average."""
    members = []
    for name, values, threshold in (("a", (0.9, 0.7, 0.1), 0.7), ("b", (0.3, 0.2, 0.1), 0.5)):
        judged = tmp_path / name / "logs" / "pooled" / "evaluate" / "run"
        judged.mkdir(parents=True)
        pairs = zip(("A\tB", "A\tC", "B\tC"), values, strict=True)
        text = "".join(f"{pair}\t{value}\n" for pair, value in pairs)
        (judged / "predictions.txt.gz").write_bytes(gzip.compress(text.encode()))
        (judged / "network.json").write_text(json.dumps({"threshold": threshold}))
        members.append(tmp_path / name)
    folder = tmp_path / "ensemble" / "seed47"
    threshold = predict(folder, "ensemble", "", [], members)
    assert 2 / 3 < threshold <= 1
    written = gzip.decompress((folder / "predictions.txt.gz").read_bytes()).decode()
    assert written.splitlines()[0] == "A\tB\t1"
    assert json.loads((folder / "leaderboard.json").read_text())["members"] == [
        str(tmp_path / "a"), str(tmp_path / "b"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"nowhere has no .*; run scripts/leaderboard.sh"):
        predict(folder, "ensemble", "", [], [tmp_path / "nowhere"])
