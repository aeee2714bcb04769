"""A log without a terminal shows at least once a minute that long work is alive."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common import long_work
from common.config_data import EmbeddingsConfig
from common.data.benchmarks.demo.esm import build_language_model
from common.data.embeddings import fill
from common.data.embeddings.build import prepare_store
from common.data.embeddings.fill import Piece
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.plan import Request
from common.long_work import LongWork
from tests.tiny_esm import MAX_LENGTH, SEQUENCES, Log, record_log, save_tiny_esm
from tests.tiny_pairs import one_process


def fields_of(line: str) -> dict[str, str]:
    event, *fields = line.split(" | ")
    return {"event": event} | dict(field.split("=", 1) for field in fields)


def progress(log: Log) -> list[dict[str, str]]:
    return [fields_of(line) for line in log.lines if line.startswith("progress | ")]


def test_progress_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(long_work, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with record_log() as log, LongWork("digging", 1000, "holes", initial=100) as work:
        for seconds in (59, 60, 61, 119, 121):
            clock[0] = seconds
            work.advance(30)
    first = {"event": "progress", "work": "digging", "done": "160", "total": "1000"}
    # 60 holes in 60 seconds; those of an earlier run do not count.
    first |= {"unit": "holes", "per_second": "1", "seconds_left": "840"}
    assert progress(log)[0] == first
    assert [line["done"] for line in progress(log)] == ["160", "250"]


def test_embedding_logs_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "LOG_EVERY", 0.0)
    settings = EmbeddingsConfig(
        model_name=str(save_tiny_esm(tmp_path / "tiny")),
        cache_dir=str(tmp_path / "cache"),
        tokens_per_batch=200,
    )
    with record_log() as log:
        prepare_store(SEQUENCES, settings, MAX_LENGTH, one_process())
    residues = str(sum(map(len, SEQUENCES.values())))
    lines = progress(log)
    assert {(line["work"], line["total"], line["unit"]) for line in lines} == {
        ("embedding", residues, "residues")
    }
    done = [int(line["done"]) for line in lines]
    assert done == sorted(done)
    assert (lines[-1]["done"], lines[-1]["seconds_left"]) == (residues, "0")
    assert float(lines[-1]["per_second"]) > 0


def test_what_other_runs_embed_counts_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "LOG_EVERY", 0.0)
    monkeypatch.setattr(LanguageModel, "load", lambda *_: SimpleNamespace(dim=1))
    monkeypatch.setattr(fill, "_check_space", lambda *_: None)
    pieces = iter([Piece("", [], 60), Piece("", [], 0)])
    foreman: Any = SimpleNamespace(
        wanted={"hash": Request("P", "A" * 100, "hash")}, next_piece=lambda *_: next(pieces)
    )
    identity, accelerator = SimpleNamespace(layer=-1), one_process()
    cache: Any = SimpleNamespace(
        accelerator=accelerator, identity=identity, files=None, directory="cache"
    )
    with record_log() as log:
        assert fill._compute(cache, foreman, {"hash"}) == 0
    assert [line["done"] for line in progress(log)] == ["40", "100"]


def test_the_demos_language_model_logs_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_work, "LOG_EVERY", 0.0)
    with record_log() as log:
        build_language_model(["ACDEFGHIKL"], tmp_path, steps=2, seed=0)
    assert [(line["done"], line["total"], line["unit"]) for line in progress(log)] == [
        ("1", "2", "steps"),
        ("2", "2", "steps"),
    ]
