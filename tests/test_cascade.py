"""The cascade: a fast model chooses the pairs that are scored, and what it loses is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.config import PrefilterConfig
from common.errors import UserError
from common.inference import cascade
from common.inference.cascade import Recall, Shortlist, choose_pairs
from common.inference.grid_scoring import ScoredPairs
from common.inference.pair_grid import PairGrid
from common.inference.predictor import Predictor
from common.inference.selection import Best
from tests.test_own_network import predict, proteins_of, read, write_fasta
from tests.tiny_benchmark import TinyProject, call_main
from tests.tiny_pairs import one_process

Shared = tuple[TinyProject, Path]


def scored(grid: PairGrid, logits: list[float], pieces: int = 1) -> list[ScoredPairs]:
    first, second = grid.pairs(slice(0, len(grid.rows)))
    whole = ScoredPairs(first, second, np.array(logits, np.float32))
    return [whole.select(part) for part in np.array_split(np.arange(len(first)), pieces)]


@pytest.mark.parametrize("pieces", [1, 4])
def test_the_best_pairs_are_chosen_and_of_equal_ones_the_first(pieces: int) -> None:
    """Of four proteins: (0,1) (0,2) (0,3) (1,2) (1,3) (2,3)."""
    ranked = scored(PairGrid.all_against_all(4), [1.0, 0.0, 3.0, 1.0, 1.0, -2.0], pieces)
    settings = PrefilterConfig(share=0.5)
    found = choose_pairs(iter(ranked), 6, settings, 47, one_process())
    assert found.pairs.tolist() == [[0, 1], [0, 3], [1, 2]]
    assert found.sample.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found.ranks.tolist() == [1.0, 0.0, 3.0, 1.0, 1.0, -2.0]


def test_the_sample_is_random_but_the_same_for_a_seed_and_any_stripes() -> None:
    grid = PairGrid.all_against_all(40)
    logits = np.random.default_rng(0).normal(size=grid.count).tolist()
    settings = PrefilterConfig(share=0.1, sample=50)

    def sample(pieces: int, seed: int) -> NDArray[np.int64]:
        ranked = iter(scored(grid, logits, pieces))
        found = choose_pairs(ranked, grid.count, settings, seed, one_process())
        by_pair = dict(zip(map(tuple, listed.tolist()), logits, strict=True))
        drawn = [by_pair[pair] for pair in map(tuple, found.sample.tolist())]
        assert found.ranks.tolist() == np.array(drawn, np.float32).tolist()
        return found.sample

    listed = np.stack(grid.pairs(slice(0, 40)), axis=1)
    assert len(np.unique(sample(1, 47), axis=0)) == 50
    assert (sample(1, 47) == sample(7, 47)).all()
    assert (sample(1, 47) != sample(1, 48)).any()


def test_recall_is_counted_by_hand() -> None:
    """Ten sampled pairs of twenty; the model's best two are its pairs 1 and 8.

    The prefilter's list has pair 1, which is third in the sample: this has three of the four listed
    pairs. By its ranks pair 8 is sixth, so that 0.6 of the pairs, three times its share, have it.
    """
    pairs = np.stack([np.zeros(10, np.int64), np.arange(1, 11)], axis=1)
    ranks = np.array([6, 5, 4, 3, 1, 0, 1, 0, 2, 9], np.float32)
    listed = np.concatenate([pairs[[0, 1, 9]], [[1, 8]]])
    found = Shortlist(PrefilterConfig(checkpoint="fast", share=0.2), listed, pairs, ranks, 20)
    measured = found.measure(np.array([0, 2, 0, 0, 0, 0, 0, 0, 1, 0], np.float32))
    assert measured.recalls == (Recall(2, 1, {3 * 0.2: 2}),)
    text = measured.describe()
    assert text.startswith("Only the 4 pairs (a share of 0.2) that fast ranks highest of all 20")
    assert text.endswith("1 of the model's own best 2 (50%; at a share of 0.6: 100%).")


def test_chosen_pairs_are_handed_on_by_rows_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cascade, "_PLACES", 10)
    grid = PairGrid.all_against_all(5)
    pairs = np.array([[0, 1], [0, 4], [1, 2], [3, 4]])
    chosen = Shortlist(PrefilterConfig(), pairs, pairs, np.zeros(4, np.float32), 10)
    logits = np.arange(4, dtype=np.float32)
    parts = list(chosen.split(logits, grid))
    assert [part.first.tolist() for part in parts] == [[0, 0, 1], [3]]
    assert [part.logits.tolist() for part in parts] == [[0, 1, 2], [3]]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 6))
def test_the_best_of_all_are_those_of_a_stable_sort(
    values: list[int], count: int, pieces: int
) -> None:
    """With pieces that are dropped at once, and so few values that many tie."""
    logits = np.array(values, np.float32)
    numbers = np.arange(len(values))
    best = Best(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.inference.selection._SPARE", 0)
        for part in np.array_split(numbers, pieces):
            best.hold(ScoredPairs(part, part, logits[part]))
    expected = np.sort(np.argsort(-logits, kind="stable")[:count])
    assert best.best().first.tolist() == expected.tolist()


@pytest.fixture(scope="module")
def fast(pretrained: Shared) -> Path:
    """A factorised model of the same project."""
    project, _ = pretrained
    call_main(project, "pretrain.py", "--set", "model_config.model=factorised",
              "run_config.pretrain_run_id=fast", "training_config.epochs=1")  # fmt: skip
    return project.output / "models" / "factorised" / "pretrain" / "fast" / "best_model"


@pytest.fixture
def fasta(pretrained: Shared, tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "own.fasta", proteins_of(pretrained[0], 12))


def test_the_fast_models_best_pairs_are_written_with_the_models_scores(
    pretrained: Shared, fast: Path, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str | Path] = ["--fasta", fasta, "--output"]
    predict(pretrained, *given, tmp_path / "all.tsv")
    predict((pretrained[0], fast), *given, tmp_path / "fast.tsv", "--density", "0.3")
    capsys.readouterr()
    cascade = ["--prefilter", str(fast), "--share", "0.3"]
    predict(pretrained, *given, tmp_path / "net.tsv", *cascade)
    everything, found = read(tmp_path / "all.tsv"), read(tmp_path / "net.tsv")
    assert list(found) == list(read(tmp_path / "fast.tsv"))
    assert len(found) == 20
    for pair, (score, call) in found.items():
        assert score == pytest.approx(everything[pair][0], abs=1e-5)
        assert call == everything[pair][1]
    best = sorted(everything, key=lambda pair: -everything[pair][0])[:20]
    kept = len(set(best) & set(found))
    said = capsys.readouterr()
    expected = f"Only the 20 pairs (a share of 0.3) that {fast} ranks highest of all 66 pairs"
    recall = f"{kept} of the model's own best 20 ({kept / 20:.0%}; at a share of 0.9: "
    first, _, third = said.out.splitlines()
    assert first.startswith("20 pairs of 12 proteins were scored, and 20 were written to")
    assert third.startswith(expected)
    assert recall in third
    assert f"prefiltered | says={third}" in said.err
    predict(pretrained, *given, tmp_path / "best.tsv", *cascade, "--top-k", "1")
    partners = [max((p for p in found if name in p), key=lambda p: found[p][0], default=None)
                for name in proteins_of(pretrained[0], 12)]  # fmt: skip
    assert set(read(tmp_path / "best.tsv")) == set(filter(None, partners))


def test_python_uses_the_prefilter_of_the_configuration(pretrained: Shared, fast: Path) -> None:
    """A model that is its own prefilter loses nothing: the best tenth is that of all pairs."""
    project, best = pretrained
    sequences = proteins_of(project, 12)
    own = f"evaluate.scoring.prefilter={{checkpoint: {best}, share: 0.1}}"
    alone = Predictor.load(best, accelerator=one_process())
    expected = alone.network(sequences, density=0.1)
    predictor = Predictor.load(best, [own], accelerator=one_process())
    assert set(predictor.network(sequences, threshold=0.0).edges) == set(expected.edges)
    with pytest.raises(UserError, match=r"density 0\.2 needs more pairs than the fraction 0\.1"):
        predictor.network(sequences, density=0.2)
    assert predictor.network({"P040": sequences["P040"]}).number_of_edges() == 0


def test_a_resumed_ranking_ranks_nothing_again(
    pretrained: Shared, fast: Path, tmp_path: Path
) -> None:
    project, best = pretrained
    override = f"evaluate.scoring.prefilter.checkpoint={fast}"
    grid = PairGrid.all_against_all(12)
    found: list[Shortlist] = []
    for share in (0.3, 0.3, 0.5):
        settings = [override, f"evaluate.scoring.prefilter.share={share}"]
        predictor = Predictor.load(best, settings, accelerator=one_process())
        assert predictor.prefilter is not None
        if found:
            predictor.prefilter.checkpoint.model.encode_rows = None  # type: ignore[assignment]
        proteins = predictor.embed(proteins_of(project, 12))
        shortlist = predictor.shortlist(proteins, grid, tmp_path)
        assert shortlist is not None
        found.append(shortlist)
    assert (found[0].pairs == found[1].pairs).all()
    assert found[0].recalls == found[1].recalls
    assert len(found[2].pairs) == 33


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prefilter", "own.fasta"], "prefilter.checkpoint own.fasta is not a best_model"),
        (["--share", "0.1"], "--share has no effect without a prefilter"),
        (["--prefilter", "BEST", "--pairs", "own.fasta"], "--pairs cannot be combined with"),
        (["--prefilter", "BEST", "--density", "0.02"], "0.02 needs more pairs than .* 0.01"),
        (["--prefilter", "BEST", "--share", "1.5"], "prefilter.share must be less than 1"),
    ],
)
def test_a_prefilter_that_makes_no_sense_is_rejected(
    pretrained: Shared,
    fasta: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(fasta.parent)
    words = [word.replace("BEST", str(pretrained[1])) for word in arguments]
    with pytest.raises(UserError, match=message):
        predict(pretrained, "--fasta", "own.fasta", "--output", "net.tsv", *words)


def test_a_judgement_refuses_a_prefilter(pretrained: Shared) -> None:
    project, best = pretrained
    with pytest.raises(UserError, match="would leave most test pairs without a score"):
        call_main(project, "evaluate.py", "--checkpoint", str(best), "--set",
                  f"evaluate.scoring.prefilter.checkpoint={best}")  # fmt: skip
