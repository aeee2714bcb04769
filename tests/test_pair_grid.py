"""Grids of pairs, their scores in stripes, and which pairs are kept as they stream by."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.config import ScoringConfig
from common.errors import UserError
from common.inference.grid_scoring import ScoredPairs, plan_stripes, score_grid
from common.inference.pair_grid import PairGrid
from common.inference.score_journal import ScoreJournal
from common.inference.scoring import score_pairs
from common.inference.scoring_job import ScoringJob
from common.inference.selection import Selection, select_of_grid, select_of_list
from common.inference.wish import Wish
from tests.test_scoring import every_pair, make_model, with_pairs
from tests.tiny_pairs import one_process

Pair = tuple[int, int]
LISTS = st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True)


def grid_of(rows: list[int], columns: list[int], with_self: bool = False) -> PairGrid:
    return PairGrid(8, np.array(rows), np.array(columns), with_self)


def listed(grid: PairGrid) -> list[Pair]:
    first, second = grid.pairs(slice(0, len(grid.rows)))
    return list(zip(first.tolist(), second.tolist(), strict=True))


@given(rows=LISTS, columns=LISTS, with_self=st.booleans())
def test_a_grid_has_every_pair_of_a_row_and_a_column_once(
    rows: list[int], columns: list[int], with_self: bool
) -> None:
    grid = grid_of(rows, columns, with_self)
    expected: dict[frozenset[int], Pair] = {}
    for pair in itertools.product(rows, columns):
        if with_self or pair[0] != pair[1]:
            expected.setdefault(frozenset(pair), pair)
    assert listed(grid) == list(expected.values())
    assert grid.count == len(expected)


def test_all_against_all_is_the_upper_triangle() -> None:
    assert listed(PairGrid.all_against_all(3)) == [(0, 1), (0, 2), (1, 2)]
    assert listed(PairGrid.all_against_all(2, with_self=True)) == [(0, 0), (0, 1), (1, 1)]
    assert PairGrid.all_against_all(20_000).count == 199_990_000


def job_of(name: str = "v3", tile_residues: int = 256) -> ScoringJob:
    settings = ScoringConfig(tile_residues=tile_residues)
    return ScoringJob(make_model(name), every_pair(), settings, one_process(), "scoring")


def joined(parts: list[ScoredPairs]) -> ScoredPairs:
    first, second, logits = zip(*parts, strict=True)
    return ScoredPairs(np.concatenate(first), np.concatenate(second), np.concatenate(logits))


@pytest.mark.parametrize("name", ["v3", "pooled", "factorised"])
def test_a_grid_is_scored_as_listed_pairs_are(name: str) -> None:
    job = job_of(name)
    rows, columns = np.array([7, 2, 19]), np.arange(24)
    grid = PairGrid(24, rows, columns, with_self=True)
    scored = joined(list(score_grid(job, grid, ScoreJournal())))
    first, second = grid.pairs(slice(0, 3))
    assert (scored.first == first).all()
    assert (scored.second == second).all()
    data = with_pairs(job.data, np.stack([first, second], axis=1))
    expected = score_pairs(job.model, data, job.settings, job.accelerator)
    assert scored.logits == pytest.approx(expected, abs=1e-5)


def test_stripes_and_blocks_are_bounded_whatever_the_number_of_proteins() -> None:
    job = job_of()
    grid = PairGrid.all_against_all(24)
    stripes = plan_stripes(job, grid)
    assert len(stripes) > 5
    for piece in stripes:
        rows = int(job.state_lengths[grid.rows[piece]].sum())
        assert rows <= 80 or piece.stop - piece.start == 1


def test_a_resumed_scoring_gives_the_same_bytes_and_scores_nothing_again(tmp_path: Path) -> None:
    job, grid = job_of(), PairGrid.all_against_all(24)
    whole = joined(list(score_grid(job, grid, ScoreJournal())))
    journal = ScoreJournal.open(tmp_path, "one", job.accelerator)
    some = list(itertools.islice(score_grid(job, grid, journal), 4))
    with (tmp_path / "one.scores").open("ab") as file:
        file.write(b"\x05\0\0\0\0\0\0\0torn")
    again = ScoreJournal.open(tmp_path, "one", job.accelerator)
    # The fourth was given to the receiver after it had been written.
    assert (again.stripes, again.pairs) == (4, sum(len(pairs.logits) for pairs in some))
    resumed = joined(list(score_grid(job, grid, again)))
    assert [part.tobytes() for part in resumed[:2]] == [part.tobytes() for part in whole[:2]]
    assert resumed.logits.tobytes() == whole.logits.tobytes()
    done = ScoreJournal.open(tmp_path, "one", job.accelerator)
    assert done.pairs == grid.count
    broken = job_of()
    broken.model.encode_rows = None  # type: ignore[assignment]
    assert joined(list(score_grid(broken, grid, done))).logits.tobytes() == whole.logits.tobytes()


@pytest.mark.parametrize("damaged", [0, 10, 30, -1])
def test_a_damaged_journal_is_cut_off_before_the_damage(tmp_path: Path, damaged: int) -> None:
    accelerator = one_process()
    journal = ScoreJournal.open(tmp_path, "one", accelerator)
    for count in (3, 4):
        journal.append(np.arange(count, dtype=np.float32))
    path = tmp_path / "one.scores"
    content = bytearray(path.read_bytes())
    content[damaged] ^= 0xFF
    path.write_bytes(bytes(content))
    again = ScoreJournal.open(tmp_path, "one", accelerator)
    assert again.stripes == (1 if damaged < 0 else 0)
    assert [part.tolist() for part in again.read()] == [[0, 1, 2]] * again.stripes


def test_a_journal_of_another_scoring_is_deleted(tmp_path: Path) -> None:
    accelerator = one_process()
    ScoreJournal.open(tmp_path, "one", accelerator).append(np.ones(2, np.float32))
    assert ScoreJournal.open(tmp_path, "other", accelerator).stripes == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other.scores"]


def kept(selection: Selection, scored: ScoredPairs, pieces: int) -> list[tuple[Pair, float]]:
    parts: list[ScoredPairs] = []
    for rows in np.array_split(np.arange(len(scored.logits)), pieces):
        parts += selection.take(scored.select(rows))
    parts += selection.finish()
    return [
        ((a, b), logit)
        for pairs in parts
        for a, b, logit in zip(*(column.tolist() for column in pairs), strict=True)
    ]


def best_partners(scored: list[tuple[Pair, float]], grid: PairGrid, count: int) -> set[Pair]:
    """By sorting the partners of every protein: highest first, then the smaller number."""
    rows, columns = set(grid.rows.tolist()), set(grid.columns.tolist())
    chosen = set()
    for owner in rows:
        partners = [
            (-logit, b if a == owner else a, (a, b))
            for (a, b), logit in scored
            if owner == a or (owner == b and a in columns)
        ]
        chosen |= {pair for *_, pair in sorted(partners)[:count]}
    return chosen


@given(
    rows=LISTS,
    columns=LISTS,
    with_self=st.booleans(),
    count=st.integers(1, 4),
    pieces=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_best_partners_of_every_protein_are_kept_in_order(
    rows: list[int], columns: list[int], with_self: bool, count: int, pieces: int, seed: int
) -> None:
    grid = grid_of(rows, columns, with_self)
    first, second = grid.pairs(slice(0, len(rows)))
    # Few distinct values, so that many tie; both zeros, which are equal.
    values = np.array([-2.5, -0.0, 0.0, 1.5], dtype=np.float32)
    logits = np.random.default_rng(seed).choice(values, len(first))
    scored = ScoredPairs(first, second, logits)
    found = kept(select_of_grid(Wish(top_k=count), grid), scored, pieces)
    everything = list(zip(listed(grid), logits.tolist(), strict=True))
    expected = best_partners(everything, grid, count)
    assert found == [item for item in everything if item[0] in expected]


def make_scored(logits: list[float]) -> ScoredPairs:
    values: NDArray[np.float32] = np.array(logits, dtype=np.float32)
    return ScoredPairs(np.arange(len(values)), np.arange(len(values)) + 100, values)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(), [0, 1, 2, 3, 4]),
        (Wish(threshold=0.5), [0, 2, 4]),
        (Wish(top_k=2), [0, 2]),
        (Wish(top_k=9, threshold=0.6), [2]),
        (Wish(density=0.2), [2]),
        (Wish(density=0.6), [0, 2, 4]),
        (Wish(density=0.0), [2]),
    ],
)
def test_of_listed_pairs_the_wanted_ones_are_kept_in_order(
    wish: Wish, expected: list[int], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last tie; 0 is a probability of exactly one half."""
    monkeypatch.setattr("common.inference.selection._SPARE", 1)
    scored = make_scored([0.0, -1.0, 2.0, -3.0, 0.0])
    found = kept(select_of_list(wish, 5), scored, pieces)
    assert [a for (a, _), _ in found] == expected


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"density": 0.1, "top_k": 3}, "a density cannot be combined"),
        ({"density": 0.1, "threshold": 0.0}, "a density cannot be combined"),
        ({"threshold": 1.5}, r"the threshold is 1\.5, but must be between 0 and 1"),
        ({"density": float("nan")}, "the density is nan, but must be between 0 and 1"),
        ({"top_k": 0}, "top-k is 0, but must be at least 1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(limits: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Wish(**limits)  # type: ignore[arg-type]


def test_a_model_that_overflows_is_refused() -> None:
    job = job_of("pooled")
    next(job.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"scores of .* pairs are not finite"):
        list(score_grid(job, PairGrid.all_against_all(24), ScoreJournal()))
