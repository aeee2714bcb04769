"""The CSV contracts: headers to the letter, numbers to the bit, no half files."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.csv_log import (
    Cell,
    EpochRow,
    training_header,
    write_records,
    write_training_csv,
)
from common.errors import UserError
from common.evaluation.tasks import pairs, topology
from common.training.resume import seal_progress

ROW = EpochRow(
    epoch=1,
    seconds=12.5,
    train_loss=0.7,
    val_loss=0.1 + 0.2,
    val_metrics={"auroc": 2 / 3, "auprc": None},
    learning_rate=1e-4,
)


def test_the_training_file_to_the_letter(tmp_path: Path) -> None:
    write_training_csv(tmp_path / "training_step.csv", [ROW], ["auprc", "auroc"])
    assert (tmp_path / "training_step.csv").read_bytes() == (
        b"Epoch,Epoch Time,Train Loss,Val Loss,Val auprc,Val auroc,Learning Rate\n"
        b"1,12.5,0.7,0.30000000000000004,,0.6666666666666666,0.0001\n"
    )


def test_the_training_header_without_metrics() -> None:
    assert training_header([]) == ["Epoch", "Epoch Time", "Train Loss", "Val Loss", "Learning Rate"]


def test_writing_again_repeats_no_row(tmp_path: Path) -> None:
    path = tmp_path / "training_step.csv"
    for rows in ([ROW], [ROW, ROW]):
        write_training_csv(path, rows, ["auroc"])
    assert len(path.read_text().splitlines()) == 3


def test_a_metric_that_an_earlier_epoch_did_not_compute_is_empty(tmp_path: Path) -> None:
    """`validation_metrics` may grow before a resume; the state's older rows lack the new one."""
    write_training_csv(tmp_path / "t.csv", [ROW], ["auroc", "f1"])
    with (tmp_path / "t.csv").open() as file:
        assert next(csv.DictReader(file))["Val f1"] == ""


def test_an_epoch_survives_json() -> None:
    assert EpochRow(**json.loads(json.dumps(asdict(ROW)))) == ROW


def test_an_epoch_of_numpy_numbers_survives_json() -> None:
    """Losses and figures come as NumPy scalars, which JSON refuses."""
    numbers: dict[str, Any] = {
        "epoch": np.int64(2),
        "seconds": np.float64(1.5),
        "train_loss": np.float32(0.1),
        "val_loss": np.float32(0.2),
        "val_metrics": {"auroc": np.float32(0.3)},
        "learning_rate": np.float64(1e-5),
    }
    row = EpochRow(**numbers)
    again = EpochRow(**json.loads(seal_progress({"row": asdict(row)}))["row"])
    assert again == row
    assert type(again.epoch) is int


def test_the_evaluation_file_to_the_letter(tmp_path: Path) -> None:
    rows: list[dict[str, Cell]] = [
        {"split": "test", "mcc": 0.5, "auroc": 0.75},
        {"split": "test_without_self_pairs", "auroc": None},
    ]
    write_records(tmp_path / "evaluate.csv", pairs.HEADER, rows)
    assert (tmp_path / "evaluate.csv").read_bytes() == (
        b"split,auroc,auprc,accuracy,sensitivity,specificity,precision,recall,f1,mcc\n"
        b"test,0.75,,,,,,,,0.5\n"
        b"test_without_self_pairs,,,,,,,,,\n"
    )


def test_the_topology_file_to_the_letter(tmp_path: Path) -> None:
    rows: list[dict[str, Cell]] = [
        {"scope": "node_size", "node_size": 20, "graph_count": 10, "graph_sim": 0.25},
        {"scope": "summary", "graph_count": 10, "laplacian_eigen_mmd": 0.125},
    ]
    write_records(tmp_path / "topology.csv", topology.HEADER, rows)
    assert (tmp_path / "topology.csv").read_bytes() == (
        b"scope,node_size,graph_count,graph_sim,relative_density,deg_dist_mmd,cc_mmd,"
        b"laplacian_eigen_mmd\n"
        b"node_size,20,10,0.25,,,,\n"
        b"summary,,10,,,,,0.125\n"
    )


def test_a_figure_without_a_column_is_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"evaluate\.csv has no column auc"):
        write_records(tmp_path / "evaluate.csv", ["split", "auroc"], [{"auc": 0.5}])
    assert not (tmp_path / "evaluate.csv").exists()


@pytest.mark.parametrize(
    "number", [1 / 3, 1e-300, 5e-324, 1e22, -0.0, np.float64(1 / 3), np.float32(0.1), np.int64(7)]
)
def test_numbers_come_back_to_the_bit(tmp_path: Path, number: Any) -> None:
    write_records(tmp_path / "n.csv", ["number"], [{"number": number}])
    text = (tmp_path / "n.csv").read_text().splitlines()[1]
    assert float(text) == number
    assert math.copysign(1, float(text)) == math.copysign(1, number)


def test_text_with_commas_and_quotes_comes_back(tmp_path: Path) -> None:
    cells = ["a,b", 'say "x"', "two\nlines"]
    write_records(tmp_path / "t.csv", ["x", "y", "z"], [dict(zip("xyz", cells, strict=True))])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == cells


def test_a_directory_that_is_none_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/t\.csv \(2 bytes\): Not a directory"):
        write_records(tmp_path / "file" / "t.csv", ["x"], [])
