"""Similar sequences: what the alignment-free search finds, what MMseqs2 does, and the groups."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from common.data.similarity import COMMAND, Method, Similarity, find_similar, match_sequences
from common.errors import UserError

LETTERS = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
needs_mmseqs = pytest.mark.skipif(
    shutil.which(COMMAND) is None, reason="MMseqs2 (mmseqs) is not on the PATH"
)
METHODS: list[object] = ["k-mers", pytest.param("mmseqs2", marks=needs_mmseqs)]


def draw(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(LETTERS, length))


def mutate(sequence: str, identity: float, rng: np.random.Generator) -> str:
    """The sequence with exactly so many residues kept, each other one changed."""
    letters = np.array(list(sequence))
    changed = rng.permutation(len(letters))[: round((1 - identity) * len(letters))]
    for place in changed:
        letters[place] = rng.choice(LETTERS[letters[place] != LETTERS])
    return "".join(letters)


def pairs_of(found: Similarity) -> set[tuple[str, str]]:
    return {(found.names[a], found.names[b]) for a, b in found.pairs.tolist()}


def family(seed: int = 0, background: int = 40) -> dict[str, str]:
    """A protein, relatives of known identity, a fragment, one with a gap, one sharing a domain."""
    rng = np.random.default_rng(seed)
    parent, motif = draw(rng, 400), draw(rng, 15)
    return {
        "parent": parent,
        "same": parent,
        "near": mutate(parent, 0.95, rng),
        "far": mutate(parent, 0.6, rng),
        "fragment": parent[100:220],
        "gapped": parent[:200] + parent[225:],
        "domain": draw(rng, 500) + parent[50:110] + draw(rng, 500),
        "short1": draw(rng, 20) + motif + draw(rng, 25),
        "short2": draw(rng, 20) + motif + draw(rng, 25),
        **{f"other{row}": draw(rng, int(rng.integers(80, 600))) for row in range(background)},
    }


def everything() -> dict[str, str]:
    """The family, and sequences that are short, dull or of odd letters, twice each."""
    odd = {"short": "MK", "dull": "A" * 200, "unknown": "X" * 10, "odd": "BJOUZ" * 20, "one": "M"}
    return family() | odd | {f"{name}-again": text for name, text in odd.items()}


@pytest.mark.parametrize("method", METHODS)
def test_relatives_and_equals_are_found_and_nothing_else(method: Method) -> None:
    """A shared domain makes nothing similar, nor does chance."""
    sequences = everything()
    found = find_similar(sequences, 0.5, method)
    pairs = pairs_of(found)
    relatives = {"same", "near", "far", "fragment", "gapped"}
    assert {b for a, b in pairs if a == "parent"} == relatives
    again = {name for name in sequences if f"{name}-again" in sequences}
    assert {(a, b) for a, b in pairs if b.endswith("-again")} == {(a, f"{a}-again") for a in again}
    members = {name for pair in pairs for name in pair}
    assert members == {"parent", *relatives, *again, *(f"{name}-again" for name in again)}
    assert found.method == method
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()


def test_the_order_of_the_sequences_does_not_matter() -> None:
    sequences = everything()
    one, other = (
        {frozenset(pair) for pair in pairs_of(find_similar(each, 0.5, "k-mers"))}
        for each in (sequences, dict(reversed(sequences.items())))
    )
    assert one == other


def test_at_a_high_identity_only_near_ones_are_similar() -> None:
    found = pairs_of(find_similar(family(), 0.9, "k-mers"))
    assert {b for a, b in found if a == "parent"} == {"same", "near", "fragment", "gapped"}


def test_hardly_any_of_the_nearly_identical_is_missed() -> None:
    rng = np.random.default_rng(5)
    first = {f"{row}": draw(rng, int(rng.integers(40, 500))) for row in range(300)}
    second = {f"{row}'": mutate(text, 0.9, rng) for row, text in first.items()}
    found = pairs_of(find_similar(first | second, 0.9, "k-mers"))
    assert found <= {(name, f"{name}'") for name in first}
    assert len(found) >= 297


def test_groups_are_the_connected_components() -> None:
    found = Similarity(tuple("abcdef"), np.array([[0, 2], [2, 4], [1, 5]]), "k-mers")
    groups = found.groups().tolist()
    assert groups[0] == groups[2] == groups[4]
    assert groups[1] == groups[5]
    assert len(set(groups)) == 3
    alone = Similarity(("a", "b"), np.empty((0, 2), np.int64), "k-mers").groups()
    assert len(set(alone.tolist())) == 2


def test_unrelated_sequences_are_not_chained() -> None:
    """400 random ones, each of 300 residues: single linkage would chain them at a few errors."""
    rng = np.random.default_rng(1)
    sequences = {str(row): draw(rng, 300) for row in range(400)}
    assert len(find_similar(sequences, 0.4, "k-mers").pairs) == 0


def test_without_sequences_or_with_one_nothing_is_similar() -> None:
    for sequences in ({}, {"a": "MKV"}):
        found = find_similar(sequences, 0.4, "k-mers")
        assert found.pairs.shape == (0, 2)
        assert len(found.groups()) == len(sequences)


def test_absent_mmseqs_leaves_the_kmers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_similar({"a": "MKV", "b": "MKV"}, 0.4).method == "k-mers"


def test_a_failing_mmseqs_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / COMMAND
    program.write_text("#!/bin/sh\necho 'Error: no space left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"exit code 3 \(Error: no space left\); reinstall MMseqs2"):
        find_similar({"a": "MKV", "b": "MKV"}, 0.4)


@pytest.mark.parametrize("method", METHODS)
def test_matches_say_how_much_is_identical(method: Method) -> None:
    """Of the shorter sequence: a fragment matches fully. Shorter or odd ones match if equal."""
    texts = everything()
    names = ["parent", "short", "dull", "unknown"]
    others = ["near", "far", "fragment", "gapped", "other1", "short-again", "dull-again", "same"]
    found = match_sequences([texts[name] for name in names], [texts[it] for it in others], method)
    shares = {
        (names[a], others[b]): share
        for (a, b), share in zip(found.pairs.tolist(), found.shares.tolist(), strict=True)
    }
    expected = {"near": 0.95, "far": 0.6, "fragment": 1.0, "gapped": 1.0, "same": 1.0}
    for other, share in expected.items():
        assert shares["parent", other] == pytest.approx(share, abs=0.02), other
    assert shares["short", "short-again"] == shares["dull", "dull-again"] == 1
    assert not [pair for pair in shares if "unknown" in pair]
    assert shares.get(("parent", "other1"), 0) < 0.2
    assert found.pairs.tolist() == sorted(map(list, {*map(tuple, found.pairs.tolist())}))
    assert found.method == method
    for queries, targets in (([], ["MKV"]), (["MKV"], []), (["MKV"], ["AAA"])):
        assert match_sequences(queries, targets, method).pairs.shape == (0, 2)
