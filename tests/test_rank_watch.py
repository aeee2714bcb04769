"""The watch over the other ranks: whom it names, when, and whom it leaves in peace."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from common import rank_watch
from common.rank_watch import FAILED, LEFT, RankWatch, explain_lost_rank


@dataclass
class Board:
    """A store that can be unplugged, and a clock that tests set."""

    values: dict[str, str] = field(default_factory=dict)
    now: float = 0.0
    cut: bool = False

    def set(self, key: str, value: str) -> None:
        if self.cut:
            raise RuntimeError("Connection reset by peer")
        self.values[key] = value

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def watch(self, rank: int, ranks: int = 3) -> RankWatch:
        watch = RankWatch(rank, ranks, 300.0, lambda: self, lambda sentence: None, lambda: self.now)
        watch.forgive()
        return watch


def pass_time(board: Board, seconds: float, *alive: RankWatch) -> None:
    """Let ranks show themselves every five seconds."""
    for _ in range(round(seconds / 5)):
        board.now += 5.0
        for watch in alive:
            watch.exchange(board)


@pytest.fixture
def ranks() -> tuple[Board, list[RankWatch]]:
    """Three ranks that have seen each other."""
    board = Board()
    watches = [board.watch(rank) for rank in range(3)]
    pass_time(board, 10, *watches)
    return board, watches


def test_a_silent_rank_is_named_after_the_limit_and_not_before(
    ranks: tuple[Board, list[RankWatch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, (zero, one, two) = ranks
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    pass_time(board, 10, zero, one, two)
    pass_time(board, 305, zero, one)  # its last sign was read 5 seconds after it was given
    assert [watch.find_lost(300.0) for watch in (zero, one)] == [None, None]
    pass_time(board, 5, zero, one)
    said = "rank 2 on node7 has given no sign of life for 305 seconds"
    assert [watch.find_lost(300.0) for watch in (zero, one)] == [said, said]


def test_a_rank_that_works_for_hours_is_left_in_peace(
    ranks: tuple[Board, list[RankWatch]],
) -> None:
    board, watches = ranks
    pass_time(board, 3600, *watches)
    assert [watch.find_lost(300.0) for watch in watches] == [None] * 3


def test_without_the_store_nobody_but_rank_0_is_blamed(
    ranks: tuple[Board, list[RankWatch]],
) -> None:
    """Behind a cut cable all others are silent, and may be well."""
    board, (zero, one, _) = ranks
    pass_time(board, 20, zero, one)
    board.now += 301.0
    lost = one.find_lost(300.0)
    assert lost is not None
    assert lost.startswith("rank 0 on ")


def test_a_rank_that_never_came_is_named_without_its_host() -> None:
    board = Board()
    zero = board.watch(0, ranks=2)
    pass_time(board, 305, zero)
    assert zero.find_lost(300.0) == "rank 1 has given no sign of life for 305 seconds"


def test_a_rank_that_has_finished_may_be_silent(ranks: tuple[Board, list[RankWatch]]) -> None:
    """Rank 0 alone writes the results, when the others have left."""
    board, (zero, one, two) = ranks
    for watch in (one, two):
        watch.farewell = LEFT
        watch.exchange(board)
    pass_time(board, 3600, zero)
    assert zero.find_lost(300.0) is None


def test_the_reason_of_a_rank_that_failed_is_told(ranks: tuple[Board, list[RankWatch]]) -> None:
    """After a moment in which ranks that meet the same mistake report it themselves."""
    board, (zero, one, two) = ranks
    two.farewell = f"{FAILED}error: no room in /dev/shm"
    two.exchange(board)
    pass_time(board, 10, zero, one)
    assert zero.find_lost(300.0) is None
    pass_time(board, 10, zero, one)
    lost = zero.find_lost(300.0)
    assert lost is not None
    assert lost.endswith(" ended (error: no room in /dev/shm)")
    assert lost.startswith("rank 2 on ")


def test_the_watch_ends_the_process_once_a_rank_is_silent() -> None:
    """In real time, with the limit at a second; a broken connection is opened anew."""
    board, said, ended = Board(), list[str](), threading.Event()
    opened: list[bool] = []

    def connect() -> Board:
        opened.append(True)
        return board

    def end(sentence: str) -> None:
        said.append(sentence)
        ended.set()

    RankWatch(0, 2, 1.0, connect, end).start()
    board.cut = True
    threading.Timer(0.4, lambda: setattr(board, "cut", False)).start()
    assert ended.wait(timeout=5.0)
    assert said[0].startswith("rank 1 has given no sign of life for 1 seconds, and the others")
    assert "--resume" in said[0]
    assert len(opened) > 1
    assert len(board.values) == 1


def test_only_errors_of_the_network_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    watch = board.watch(1)
    monkeypatch.setattr(rank_watch, "_WATCHES", [watch])
    monkeypatch.setattr(RankWatch, "blame", lambda watch: "rank 0 on a has gone")
    broken = RuntimeError("[../pair.cc:547] Connection closed by peer [10.0.0.1]:5")
    assert str(explain_lost_rank(broken)).startswith("rank 0 on a has gone, and the others cannot")
    assert explain_lost_rank(RuntimeError("size mismatch")) is None
    assert explain_lost_rank(ValueError("Connection closed by peer")) is None
    monkeypatch.setattr(rank_watch, "_WATCHES", [])
    assert explain_lost_rank(broken) is None
