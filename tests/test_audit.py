"""The audit: each leak and oddity planted alone is named, and a clean benchmark has none."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from common.data.audit import audit_splits
from common.data.audit_facts import Audit, Finding
from common.data.pair_hashes import find_hashed, hash_pairs
from common.data.tables.pairs import PairTable
from common.errors import UserError
from tests.test_negatives import table_of
from tests.test_similarity import draw, mutate

# Validation shares its proteins with training, as in PRING; test shares none.
CLEAN = {
    "train": "ab1 bc1 cd1 aa1 ac0 ad0 be0 ef1",
    "val": "bd1 ae0 bf0 ce1 bb1",
    "test": "xy1 yz1 xz0 xx1 yw0",
}
RNG = np.random.default_rng(0)
SEQUENCES = {letter: draw(RNG, 200) for letter in "abcdefvwxyz"}


def audit(
    splits: Mapping[str, str] | None = None,
    sequences: Mapping[str, str] = SEQUENCES,
    limit: int = 1000,
) -> Audit:
    """The audit of the clean splits, some replaced; an empty one is left out."""
    texts = {name: text for name, text in (CLEAN | dict(splits or {})).items() if text}
    return audit_splits({name: table_of(text) for name, text in texts.items()}, sequences, limit)


def findings(found: Audit, *levels: str) -> dict[str, Finding]:
    return {one.name: one for one in found.findings() if one.level in (levels or [one.level])}


def refusal(found: Audit) -> str:
    with pytest.raises(UserError) as caught:
        found.refuse()
    return str(caught.value)


def test_what_is_normal_in_the_benchmark_is_no_warning() -> None:
    found = audit()
    assert findings(found, "warning", "refused") == {}
    found.refuse()
    assert {"seen", "self_pairs", "shared_proteins", "degree"} <= findings(found).keys()


def test_the_counts_by_hand() -> None:
    """Degrees: a 3, b 2, c 2, d 1, e 1, f 1; sums: bd 3, ce 3, bb 4 against ae 4, bf 3."""
    found = audit()
    train, val, test = found.splits.values()
    assert (train.pairs, train.positives, train.proteins) == (8, 5, 6)
    assert (val.self_positive, val.self_negative) == (1, 0)
    assert val.seen == (0, 0, 5)
    assert test.seen == (5, 0, 0)
    assert val.degree_auroc == pytest.approx((0.5 + 0.5 + 1 + 0.5) / 6)
    assert val.degree_product_auroc == pytest.approx((0.5 + 0.5 + 1 + 1) / 6)
    assert test.degree_auroc == 0.5
    assert found.shared["train", "val"].proteins.count == 6
    assert test.negative_only.examples == ("w",)
    assert val.negative_only.count == 0, "e and f are negative here, but positive in training"


def test_pairs_with_one_seen_protein_are_counted() -> None:
    assert audit({"val": "bd1 av0 vw1 vv1 aa0"}).splits["val"].seen == (2, 1, 2)


@pytest.mark.parametrize(
    ("splits", "name", "sentence"),
    [
        ({"test": "xy1 yz0 ba1"}, "shared_pairs", "1 pair is in both train and test (a b)"),
        ({"test": "xy1 yz0 xd0"}, "shared_proteins", "1 protein is in both train and test (d)"),
        ({"test": "xy1 yz0 yx0"}, "contradictory", "1 test pair is listed with both labels (x y)"),
        ({"val": "bd1 ae0 ea1"}, "contradictory", "1 val pair is listed with both labels (a e)"),
        ({"test": "xy1 yz1"}, "one_class", "all 2 test pairs are positive"),
        ({"train": "ab0 cd0 ef0"}, "one_class", "all 3 train pairs are negative"),
    ],
)
def test_strict_refuses(splits: dict[str, str], name: str, sentence: str) -> None:
    found = audit(splits)
    assert sentence in {one.sentence for one in found.findings() if one.level == "refused"}
    assert found.findings()[0].level == "refused"
    assert sentence in refusal(found)
    assert "set data_config.audit: warn" in refusal(found)
    assert name in findings(found, "refused")


@pytest.mark.parametrize(
    ("splits", "name", "sentence"),
    [
        ({"val": "bd1 ae0 ba1"}, "shared_pairs", "1 pair is in both train and val (a b)"),
        ({"val": "xy1 vw0 vd1 vx0"}, "shared_proteins", "1 protein is in both train and val (d)"),
        ({"train": CLEAN["train"] + " ba1 ab1 cd1"}, "repeated", "2 train pairs are listed more"),
        ({"val": "bd1 ae0 ba0"}, "relabelled", "1 pair is positive in one of train and val but"),
    ],
)
def test_warnings_are_not_refused(splits: dict[str, str], name: str, sentence: str) -> None:
    found = audit({"test": "", **splits})
    assert findings(found, "warning")[name].sentence.startswith(sentence)
    found.refuse()


def test_a_pair_with_both_labels_is_not_counted_as_repeated_as_well() -> None:
    train = audit({"train": CLEAN["train"] + " ba0 cb1"}).splits["train"]
    assert train.contradictory.examples == ("a b",)
    assert train.repeated.examples == ("b c",)


def test_the_first_five_are_named() -> None:
    test = "xy1 yz0 " + " ".join(f"{letter}x1" for letter in "abcdef")
    sentence = findings(audit({"val": "", "test": test}), "refused")["shared_proteins"].sentence
    assert sentence == "6 proteins are in both train and test (a, b, c, d, e, …)"


def test_sequences_under_another_id_are_found_in_either_direction() -> None:
    near = mutate(SEQUENCES["b"], 0.95, np.random.default_rng(1))
    found = audit({}, SEQUENCES | {"x": SEQUENCES["a"], "y": near, "w": "MK", "d": "MK"})
    shared = found.shared["train", "test"]
    assert shared.same_sequence.examples == ("a x", "d w")
    assert shared.near_identical.examples == ("b y",)
    assert {"same_sequence", "near_identical"} <= findings(found, "warning").keys()
    # A copy within training is no leak, and neither are the proteins that two splits share.
    found = audit({}, SEQUENCES | {"a": SEQUENCES["b"]})
    assert all(not one.same_sequence.count for one in found.shared.values())


def test_three_copies_are_found_across_every_two_splits() -> None:
    found = audit({"val": "bd1 ve0 bf0"}, SEQUENCES | dict.fromkeys("avx", "MKV"))
    copies = {names: one.same_sequence.examples for names, one in found.shared.items()}
    assert copies == {
        ("train", "val"): ("a v",),
        ("train", "test"): ("a x",),
        ("val", "test"): ("v x",),
    }


def test_what_is_cut_is_counted_by_proteins_and_pairs() -> None:
    found = audit({}, SEQUENCES | {"a": SEQUENCES["a"] + "M"}, limit=200)
    train = found.splits["train"]
    assert (train.cut_proteins.examples, train.cut_pairs, train.longest) == (("a",), 4, 201)
    assert found.splits["test"].cut_pairs == 0
    assert findings(found, "info")["cut"].sentence.startswith("1 val protein is cut to 200")


def test_proteins_without_a_sequence_are_counted_and_not_compared() -> None:
    found = audit({}, {})
    assert found.splits["train"].proteins == 6
    assert findings(found, "warning", "refused") == {}


def test_it_is_saved_as_json_and_shown_as_a_table() -> None:
    found = audit({"test": "xy1 yz0 ba1"})
    content = json.loads(json.dumps(found.to_dict()))
    assert content["splits"]["test"]["pairs"] == 3
    assert content["shared"]["train/test"]["pairs"] == {"count": 1, "examples": ["a b"]}
    assert content["findings"][0]["level"] == "refused"
    lines = found.table().splitlines()
    assert lines[0].split() == ["train", "val", "test"]
    rows = {line[:30].strip(): line[30:].split() for line in lines}
    assert rows["pairs"][-3:] == ["8", "5", "3"]
    assert [line.split()[-3:] for line in lines if "shared pairs" in line] == [["0", "1", "0"]]


def test_hashes_know_pairs_by_their_names_alone() -> None:
    """Neither order, labels, repeats nor numbering matter."""
    hashes = hash_pairs(table_of("ab1 cb0 bc1 dd1"))
    assert len(hashes) == 3
    assert hashes.dtype == np.uint64
    assert np.array_equal(hashes, hash_pairs(table_of("dd0 ba0 cb1")))
    other = table_of("xb1 ba0 bc1 dd1 cd0 xx1")
    assert find_hashed(other, hashes).tolist() == [False, True, True, True, False, False]
    joined = PairTable(("a", "ab", "b", "bc", "c"), np.array([[0, 3], [1, 4]]), np.ones(2, np.int8))
    assert len(hash_pairs(joined)) == 2, "'a' with 'bc' is not 'ab' with 'c'"
