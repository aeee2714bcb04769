"""The classes of easy and difficult pairs, by hand, and the rows that they are in evaluate.csv."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.config_file import load_config
from common.csv_log import Table
from common.data.pair_hashes import TrainedOn
from common.data.tables.ids import number_ids
from common.data.tables.pairs import PairTable
from common.evaluation.difficulty import Class, classify_identities, classify_lengths, classify_seen
from common.evaluation.predictions import Predictions
from common.evaluation.tasks.base import TaskResult
from common.evaluation.test_side import open_test_side
from common.inference.pair_metrics import pair_metrics
from tests.tiny_benchmark import SPECIES, TinyProject
from tests.tiny_esm import record_log

# The pairs AA, AB, BC, CC, CD.
TABLE = PairTable(
    ("A", "B", "C", "D"),
    np.array([[0, 0], [0, 1], [1, 2], [2, 2], [2, 3]]),
    np.array([1, 0, 1, 1, 0], np.int8),
)


def rows_of(classes: Sequence[Class]) -> dict[str, list[int]]:
    return {name: np.flatnonzero(pairs).tolist() for name, pairs in classes}


def test_pairs_by_the_number_of_proteins_seen_in_training() -> None:
    """A and B occur in training."""
    assert rows_of(classify_seen(TABLE, ("A", "B", "X"))) == {
        "seen2": [0, 1], "seen1": [2], "seen0": [3, 4],
    }  # fmt: skip


def test_pairs_by_the_length_of_the_longer_protein() -> None:
    """A bound belongs to the class below it."""
    assert rows_of(classify_lengths(TABLE, of_lengths(400, 401, 700, 701))) == {
        "length_upto_400": [0], "length_400_to_700": [1, 2, 3], "length_above_700": [4],
    }  # fmt: skip


def test_pairs_of_proteins_without_a_sequence_have_no_length() -> None:
    sequences = of_lengths(10, 10, 10, 900)
    sequences.pop("B")
    assert rows_of(classify_lengths(TABLE, sequences)) == {
        "length_upto_400": [0, 3], "length_400_to_700": [], "length_above_700": [4],
    }  # fmt: skip


def test_pairs_by_the_identity_of_the_more_similar_protein() -> None:
    """A shares 100 of 200 residues with a training protein, B 70 of 200, C and D none."""
    rng = np.random.default_rng(1)
    known, other, *new = ("".join(rng.choice(list("ACDEFGHIKL"), 200)) for _ in range(4))
    unlike = str.maketrans("ACDEFGHIKL", "MNPQRSTVWY")
    sequences = {
        "X": known,
        "Y": other,
        "A": known[:100] + known[100:].translate(unlike),
        "B": other[:70] + other[70:].translate(unlike),
        "C": new[0].translate(unlike),
        "D": new[1].translate(unlike),
    }
    training = ("X", "Y", "Z")
    assert rows_of(classify_identities(TABLE, training, sequences)) == {
        "identity_below_30": [3, 4], "identity_30_to_50": [2], "identity_from_50": [0, 1],
    }  # fmt: skip
    sequences.pop("C")
    assert rows_of(classify_identities(TABLE, training, sequences)) == {
        "identity_below_30": [], "identity_30_to_50": [], "identity_from_50": [0, 1],
    }  # fmt: skip


def test_a_protein_of_the_training_pairs_is_identical_to_itself() -> None:
    """Also one that is too short for k-mers."""
    sequences = {"A": "MKV", "B": "W" * 40, "C": "MKVLACDEFG", "D": "M"}
    found = rows_of(classify_identities(TABLE, ("A", "B"), sequences))
    assert found["identity_from_50"] == [0, 1, 2]
    assert found["identity_below_30"] == [3, 4]


def of_lengths(*lengths: int) -> dict[str, str]:
    return {name: "A" * length for name, length in zip("ABCD", lengths, strict=True)}


def judge_pairs(project: TinyProject, trained_on: TrainedOn | None = None) -> TaskResult:
    """Judge scores that follow from the ids."""
    few = ["evaluate.tasks=[pairs]", "evaluate.intervals.resamples=2"]
    side = open_test_side(load_config(project.config, "evaluate", few), trained_on=trained_on)
    table = side.needed_pairs()
    scores = (table.pairs.sum(axis=1) * 37 % 101) / 101
    predictions = Predictions.gather(table.proteins, table.pairs, scores)
    return side.tasks["pairs"].judge(predictions, 0.5)


def judge(project: TinyProject) -> dict[object, dict[str, object]]:
    """Judge scores that follow from the ids: the rows by their split."""
    rows = judge_pairs(project).tables["evaluate.csv"].rows
    return {row["split"]: dict(row) for row in rows}


def find(project: TinyProject, name: str) -> Path:
    (path,) = (project.folder / "data").rglob(name)
    return path


def test_each_class_that_has_pairs_is_a_row_of_its_own(project: TinyProject) -> None:
    """Three proteins of the test occur in training, and one is long."""
    train, test = (find(project, f"{SPECIES}_{split}_ppi.txt") for split in ("train", "test"))
    pairs = [line.split() for line in test.read_text().splitlines()]
    seen = {pairs[5][0], pairs[5][1], pairs[9][0]}
    with train.open("a") as file:
        file.writelines(f"{name}\t{name}\t1\n" for name in seen)
    fasta = find(project, f"{SPECIES}_simple.fasta")
    long = pairs[7][0]
    fasta.write_text(fasta.read_text().replace(f">{long}\n", f">{long}\n{'A' * 500}"))
    rows = judge(project)
    names = sorted({protein for a, b, _ in pairs for protein in (a, b)})
    for split, of_class in (
        ("test_seen2", lambda a, b: {a, b} <= seen),
        ("test_seen1", lambda a, b: len({a, b} & seen) == 1 and a != b),
        ("test_seen0", lambda a, b: not {a, b} & seen),
        ("test_length_upto_400", lambda a, b: long not in (a, b)),
        ("test_length_400_to_700", lambda a, b: long in (a, b)),
    ):
        chosen = [pair for pair in pairs if of_class(*pair[:2])]
        assert 0 < len(chosen) < len(pairs)
        scores = [(names.index(a) + names.index(b)) * 37 % 101 / 101 for a, b, _ in chosen]
        expected = pair_metrics(scores, [int(label) for *_, label in chosen])
        assert rows[split] == {"split": split, **expected}
    assert "test_length_above_700" not in rows


def test_small_classes_log_no_warning(project: TinyProject) -> None:
    """A class of one pair has no AUROC, which is nothing to warn about."""
    train, test = (find(project, f"{SPECIES}_{split}_ppi.txt") for split in ("train", "test"))
    a, b, _ = test.read_text().splitlines()[5].split()
    with train.open("a") as file:
        file.write(f"{a}\t{b}\t1\n")
    with record_log() as log:
        rows = judge(project)
    assert rows["test_seen2"]["auroc"] is None
    assert log.events() == []


def test_a_benchmark_without_training_pairs_or_sequences_lacks_rows(project: TinyProject) -> None:
    find(project, f"{SPECIES}_train_ppi.txt").unlink()
    plain = {"test", "test_without_self_pairs"}
    assert {*judge(project)} == {*plain, "test_length_upto_400"}
    find(project, f"{SPECIES}_simple.fasta").unlink()
    shutil.rmtree(project.folder / "cache", ignore_errors=True)
    with record_log() as log:
        assert {*judge(project)} == plain
    assert log.events() == []


def test_a_models_own_training_proteins_decide_not_those_of_the_configuration(
    project: TinyProject,
) -> None:
    """The checkpoint was trained on a pair of the test's proteins and on unknown ones."""
    names = sorted({name for a, b, _ in read_test(project) for name in (a, b)})
    model = TrainedOn.of(of_pairs((names[0], names[1]), ("X", "Y")))
    older = TrainedOn(model.pairs)
    pairs = [{a, b} for a, b, _ in read_test(project)]
    (seen,) = (row for row in shown(project, model).rows if row["split"] == "test_seen0")
    assert seen["pairs"] == sum(names[0] not in pair and names[1] not in pair for pair in pairs)
    assert "with the 2 training proteins of this benchmark among the 4 of the checkpoint." in (
        shown(project, model).caption
    )
    assert "the train split of the configuration." in shown(project).caption
    assert "the configuration, because the checkpoint does not list its own." in (
        shown(project, older).caption
    )


def test_rows_that_repeat_the_row_of_all_pairs_are_in_the_file_but_not_in_tables(
    project: TinyProject,
) -> None:
    """No test protein occurs in training, and all are short and unlike those of training."""
    assert "test_seen0" in judge(project)
    table = shown(project)
    assert [row["split"] for row in table.rows] == ["test", "test_without_self_pairs"]
    assert (
        "All test pairs belong to test_seen0 (no protein was seen in training),"
        " test_length_upto_400, test_identity_below_30: rows that repeat"
    ) in table.caption


def shown(project: TinyProject, trained_on: TrainedOn | None = None) -> Table:
    """The table of rankings."""
    return judge_pairs(project, trained_on).summary[0]


def read_test(project: TinyProject) -> list[list[str]]:
    return [line.split() for line in find(project, f"{SPECIES}_test_ppi.txt").open()]


def of_pairs(*pairs: tuple[str, str]) -> PairTable:
    ids, ends = number_ids([name for pair in pairs for name in pair])
    return PairTable(ids, ends.reshape(-1, 2), np.ones(len(pairs), np.int8))
