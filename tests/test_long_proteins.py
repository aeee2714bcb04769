"""Proteins longer than a window: cut, or embedded in overlapping windows that are averaged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from common.config import Config
from common.config_data import EmbeddingsConfig
from common.data.embeddings.build import EmbeddingStore, prepare_store
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import locate_model
from common.data.embeddings.shards import StoreIdentity
from common.data.embeddings.windows import place_windows, states_of_long
from common.errors import UserError
from common.evaluation.export.base import Proteins
from common.evaluation.own_summary import _describe_cut
from tests.tiny_benchmark import ROOT
from tests.tiny_esm import SEQUENCES, Log, record_log, save_tiny_esm
from tests.tiny_pairs import one_process

WINDOW = 90
REAL_ESM = ROOT.parent / "shared" / "esm2_t6_8M"


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return one_process()


@pytest.fixture
def settings(tmp_path: Path) -> EmbeddingsConfig:
    """Exact states in windows, by a model whose positions end at 126."""
    esm = save_tiny_esm(tmp_path / "tiny", position_embedding_type="absolute")
    cache = str(tmp_path / "cache")
    return EmbeddingsConfig(model_name=str(esm), cache_dir=cache, dtype="float32", long="windows")


@pytest.fixture
def log() -> Iterator[Log]:
    with record_log() as handler:
        yield handler


class Places:
    """A model whose state of a residue is its place in the sequence that it reads."""

    dim, special_tokens = 1, 2

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def residue_states(self, sequences: Sequence[str]) -> list[torch.Tensor]:
        self.batches.append(list(sequences))
        return [torch.arange(len(text)).float()[:, None] for text in sequences]


def read(residues: str, window: int, tokens: int) -> tuple[list[float], list[list[str]]]:
    model = Places()
    states = states_of_long(cast(LanguageModel, model), residues, window, tokens)
    return states[:, 0].tolist(), model.batches


def test_windows_by_hand() -> None:
    """Of 8 residues 2 overlap at least, so a window begins at most 6 after the one before."""
    assert place_windows(8, 8) == [slice(0, 8)]
    assert place_windows(9, 8) == [slice(0, 8), slice(1, 9)]
    assert place_windows(14, 8) == [slice(0, 8), slice(6, 14)]
    assert place_windows(15, 8) == [slice(0, 8), slice(3, 11), slice(7, 15)]


@given(length=st.integers(1, 400), window=st.integers(1, 60))
def test_windows_cover_a_protein_and_overlap_by_a_quarter(length: int, window: int) -> None:
    windows = place_windows(length, window)
    assert (windows[0].start, windows[-1].stop) == (0, length)
    for before, after in itertools.pairwise(windows):
        assert before.stop - before.start == after.stop - after.start == window
        assert after.start > before.start
        shared = before.stop - after.start
        assert shared >= (math.ceil(window / 4) if window > 1 else 0)


def test_states_are_averaged_where_windows_overlap() -> None:
    states, batches = read("ACDEFGHI", window=6, tokens=16)
    assert batches == [["ACDEFG", "DEFGHI"]]
    assert states == [0, 1, (2 + 0) / 2, (3 + 1) / 2, (4 + 2) / 2, (5 + 3) / 2, 4, 5]


def test_as_many_windows_are_computed_at_once_as_the_tokens_allow() -> None:
    for tokens, expected in ((1, [1] * 5), (15, [1] * 5), (16, [2, 2, 1]), (99, [5])):
        _, batches = read("ACDEFGHIKLMNPQRSTVWYA", window=6, tokens=tokens)
        assert [len(batch) for batch in batches] == expected
        assert {len(text) for batch in batches for text in batch} == {6}


def contents(store: EmbeddingStore) -> dict[str, bytes]:
    return {name: store[name].tobytes() for name in store}


def test_proteins_that_fit_into_a_window_are_embedded_as_without_windows(
    settings: EmbeddingsConfig, accelerator: Accelerator
) -> None:
    windows = prepare_store(SEQUENCES, settings, WINDOW, accelerator)
    cut = settings.model_copy(update={"long": "truncate"})
    assert contents(windows) == contents(prepare_store(SEQUENCES, cut, WINDOW, accelerator))
    assert len([path for path in Path(settings.cache_dir).iterdir() if path.is_dir()]) == 2


def test_a_long_protein_is_embedded_whole_beside_the_others(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    """200 residues in windows of 90: begin at 0, 55 and 110."""
    long = "".join(SEQUENCES.values())[:200]
    store = prepare_store({"long": long, **SEQUENCES}, settings, WINDOW, accelerator)
    assert (store.length("long"), len(store)) == (200, 1 + len(SEQUENCES))
    model = LanguageModel.load(locate_model(settings), -1, torch.device("cpu"))
    parts = [model.residue_states([long[start : start + 90]])[0] for start in (0, 55, 110)]
    expected = torch.cat([parts[0][:55], (parts[0][55:] + parts[1][:35]) / 2, parts[1][35:55],
                          (parts[1][55:] + parts[2][:35]) / 2, parts[2][35:]])  # fmt: skip
    np.testing.assert_allclose(store["long"], expected.numpy(), atol=1e-5, rtol=1e-5)
    ready = log.ready()
    assert (ready["truncated"], ready["in_windows"], ready["such_as"]) == ("0", "1", "long")
    assert "sequences_longer_than_trained_on" not in log.events()
    assert prepare_store({"long": long}, settings, WINDOW, accelerator).length("long") == 200
    assert log.computed() == 0


def test_a_window_may_not_be_longer_than_learned_positions(
    settings: EmbeddingsConfig, accelerator: Accelerator
) -> None:
    with pytest.raises(UserError, match=r"is 127.*at most 126 residues; lower .* to 126 \(.*long"):
        prepare_store(SEQUENCES, settings, 127, accelerator)


def test_the_log_names_the_first_of_the_proteins_that_were_cut(
    settings: EmbeddingsConfig, accelerator: Accelerator, log: Log
) -> None:
    cut = settings.model_copy(update={"long": "truncate"})
    sequences = {f"L{number}": "MKV" * (40 + number) for number in range(7)}
    store = prepare_store({**sequences, "fits": "MKV"}, cut, WINDOW, accelerator)
    assert {store.length(name) for name in sequences} == {WINDOW}
    assert (log.ready()["truncated"], log.ready()["such_as"]) == ("7", "L0,L1,L2,L3,L4")


def test_caches_of_cut_proteins_keep_the_names_that_they_had_before_windows() -> None:
    identity = StoreIdentity("esm", None, "0f", -1, "float16", 1000)
    assert identity.directory_name == "esm-2b1d8e68a66e2934"


def test_sequences_are_cut_unless_windows_cover_them() -> None:
    assert Config.model_validate({}).data.cut_length == 1000
    windows = {"data_config": {"embeddings": {"long": "windows"}}}
    assert Config.model_validate(windows).data.cut_length is None


def test_the_closing_sentences_name_the_proteins_that_were_cut() -> None:
    proteins = Proteins(tuple("ABCDEFGH"), np.array([9, 11, 10, 12, 13, 14, 15, 16]))
    (sentence,) = _describe_cut(proteins, 10)
    assert sentence == (
        "6 of the proteins were truncated to the first 10 residues, as in the model's training:"
        " B, D, E, F, G, …."
    )
    assert not list(_describe_cut(proteins, 16))
    assert not list(_describe_cut(proteins, None))


@pytest.mark.pipeline
@pytest.mark.skipif(not REAL_ESM.is_dir(), reason="the real language model is not here")
def test_windows_come_close_to_the_whole_protein_for_a_real_model_with_rotary_positions() -> None:
    files = locate_model(EmbeddingsConfig(model_name=str(REAL_ESM)))
    model = LanguageModel.load(files, -1, torch.device("cpu"))
    rng = np.random.default_rng(47)
    residues = "".join(rng.choice(list("LAGVSERTIDPKQNFYMHWC"), 1300))
    whole = model.residue_states([residues])[0]
    in_windows = states_of_long(model, residues, 1000, 1024)
    assert in_windows.shape == whole.shape == (1300, 320)
    assert torch.cosine_similarity(whole, in_windows, dim=1).mean() > 0.98
