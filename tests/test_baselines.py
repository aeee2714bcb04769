"""Baselines: the contract, by a toy, and each of them by hand or in another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.ensemble import HistGradientBoostingClassifier

from common.config_file import load_config
from common.data.similarity import Matches
from common.data.tables.pairs import PairTable
from common.evaluation import test_side
from common.evaluation.baselines import composition, homology, kernel
from common.evaluation.baselines.base import BaselineLeftOutError, predict_baseline
from common.evaluation.baselines.composition import compositions, score_composition
from common.evaluation.baselines.degree import score_degrees
from common.evaluation.baselines.homology import best_interologs, score_homology
from common.evaluation.baselines.kernel import compare_proteins, score_kernel
from common.evaluation.baselines.training import NoTrainingPairsError
from common.evaluation.judging import judge
from common.evaluation.predictions import Predictions
from common.registry import BASELINES, TASKS
from tests.tiny_benchmark import TinyProject, make_project


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A project that is only read."""
    return make_project(tmp_path_factory.mktemp("baselines"))


def open_tasks(project: TinyProject, *tasks: str) -> test_side.TestSide:
    settings = [f"evaluate.tasks=[{','.join(tasks)}]", "evaluate.intervals.resamples=0"]
    config = load_config(project.config, "evaluate", settings)
    return test_side.open_test_side(config)


def by_pair(predictions: Predictions) -> dict[tuple[str, str], float]:
    names, scores = predictions.ids, predictions.scores.tolist()
    pairs = ((names[a], names[b]) for a, b in predictions.pairs.tolist())
    return dict(zip(pairs, scores, strict=True))


def pair_rows(side: test_side.TestSide, predictions: Predictions) -> list[Mapping[str, object]]:
    """The rows of `evaluate.csv` at the threshold 0.5."""
    return list(judge(side, predictions, 0.5).results["pairs"].tables["evaluate.csv"].rows)


def test_random_scores_are_uniform_and_know_nothing(shared: TinyProject) -> None:
    """The AUROC is the mean over seeds: on 50 pairs a single one strays by 0.1."""
    side = open_tasks(shared, "pairs", "topology")
    drawn = [predict_baseline("random", side, seed) for seed in range(40)]
    scores = np.concatenate([predictions.scores for predictions in drawn])
    assert np.histogram(scores, 10, (0, 1))[0] / len(scores) == pytest.approx(0.1, abs=0.01)
    assert np.corrcoef(drawn[0].scores, drawn[1].scores)[0, 1] == pytest.approx(0, abs=0.2)
    found = [pair_rows(side, predictions)[0]["auroc"] for predictions in drawn]
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(0.5, abs=0.04)


def test_random_scores_follow_from_seed_and_pair_alone(shared: TinyProject) -> None:
    """The metrics of the test pairs would depend on what else is judged."""
    some, all_of_them = (
        by_pair(predict_baseline("random", open_tasks(shared, *tasks), 47))
        for tasks in (["pairs"], ["pairs", "topology", "complexes"])
    )
    assert len(some) < len(all_of_them) == 24 * 25 // 2
    assert some.items() <= all_of_them.items()
    # Made once by this code: the same on every machine.
    assert all_of_them["P040", "P041"] == pytest.approx(0.3889797705234387)
    assert by_pair(predict_baseline("random", open_tasks(shared, "pairs"), 48)) != some


def test_self_pairs_are_all_that_is_predicted(shared: TinyProject) -> None:
    side = open_tasks(shared, *TASKS.names())
    predictions = predict_baseline("self_pairs", side, 47)
    assert len(side.needed_pairs()) == 24 * 25 // 2  # each once, whatever the number of tasks
    edges = predictions.edges().edges
    assert edges.tolist() == [[i, i] for i in range(24)]
    judgement = judge(side, predictions, 0.5)
    with_them, without, *_ = judgement.results["pairs"].tables["evaluate.csv"].rows
    assert (with_them["precision"], without["recall"]) == (1.0, 0.0)
    assert judgement.results["complexes"].metrics["pathway_recall"] == 0
    # All pairs have a score, so nothing is missing.
    assert not [note for note in judgement.notes if "no score" in note]


def test_a_baseline_of_one_file_is_judged(shared: TinyProject) -> None:
    """It may read all of the benchmark: here, how often a protein is in the test network."""

    def by_degree(side: test_side.TestSide, seed: int) -> Predictions:
        table, network = side.needed_pairs(), side.sets[0].network
        degrees = network.degrees()[[network.index[name] for name in table.proteins]]
        return Predictions.gather(table.proteins, table.pairs, degrees[table.pairs].sum(1) * 1.0)

    BASELINES.add("toy", by_degree)
    try:
        side = open_tasks(shared, "pairs", "topology")
        row, *_ = pair_rows(side, predict_baseline("toy", side, 47))
    finally:
        BASELINES._entries.pop("toy")
    assert isinstance(row["auroc"], float)
    assert row["auroc"] > 0.6


def labelled(*pairs: tuple[str, str, int]) -> PairTable:
    ids = sorted({name for a, b, _ in pairs for name in (a, b)})
    places = np.array([[ids.index(a), ids.index(b)] for a, b, _ in pairs])
    return PairTable.number(ids, places, np.array([label for *_, label in pairs]))


def every_pair(names: str) -> PairTable:
    return labelled(*((a, b, 0) for i, a in enumerate(names) for b in names[i:]))


def test_degrees_count_training_interactions() -> None:
    train = labelled(("b", "a", 1), ("a", "c", 1), ("a", "d", 0), ("c", "c", 1))
    table = labelled(("a", "b", 0), ("c", "a", 0), ("d", "b", 0), ("c", "c", 0), ("x", "a", 0))
    # a: b and c; b: a; c: a and twice itself; d: none; x is new.
    assert score_degrees(train, table).tolist() == [2 + 1, 3 + 2, 0 + 1, 3 + 3, 0 + 2]


def test_degrees_say_nothing_about_new_proteins(shared: TinyProject) -> None:
    side = open_tasks(shared, "pairs")
    predictions = predict_baseline("degree", side, 47)
    assert set(predictions.scores.tolist()) == {0.0}
    assert pair_rows(side, predictions)[0]["auroc"] == 0.5


def test_composition_is_counted_by_hand() -> None:
    """A protein of unusual letters, or of one residue, has no dipeptides."""
    found = compositions(["AACA", "AXC", "M", "BB"])
    place = {letter: row for row, letter in enumerate("ACDEFGHIKLMNPQRSTVWY")}
    expected = np.zeros((4, 420))
    expected[0, [place["A"], place["C"]]] = 3 / 4, 1 / 4
    for pair in ("AA", "AC", "CA"):
        expected[0, 20 + 20 * place[pair[0]] + place[pair[1]]] = 1 / 3
    expected[1, [place["A"], place["C"]]] = 1 / 2
    expected[2, place["M"]] = 1
    assert found == pytest.approx(expected)


def test_composition_scores_are_those_of_trees_on_counted_letters(
    shared: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features and blocks in another way: a Counter for each protein, all pairs at once."""
    monkeypatch.setattr(composition, "BLOCK_PAIRS", 7)
    benchmark = open_tasks(shared, "pairs").sets[0].benchmark
    train, test, sequences = (
        benchmark.pairs("train"),
        benchmark.pairs("test"),
        benchmark.sequences(),
    )
    letters = "ACDEFGHIKLMNPQRSTVWY"
    words = [*letters, *map("".join, product(letters, repeat=2))]

    def count(name: str) -> np.ndarray:
        text = sequences[name]
        seen = Counter(text) + Counter(a + b for a, b in pairwise(text))
        sizes = [len(text)] * 20 + [len(text) - 1] * 400
        return np.array([seen[word] / size for word, size in zip(words, sizes, strict=True)])

    def features(table: PairTable) -> np.ndarray:
        named = [(table.proteins[a], table.proteins[b]) for a, b in table.pairs.tolist()]
        ends = [(count(a), count(b)) for a, b in named]
        return np.array([[*(a + b), *np.abs(a - b)] for a, b in ends])

    trees = HistGradientBoostingClassifier(
        max_iter=composition.TREES, early_stopping=False, random_state=3
    ).fit(features(train), train.labels)
    expected = trees.predict_proba(features(test))[:, 1]
    scores = score_composition(train, test, sequences, 3)
    assert scores == pytest.approx(expected)
    turned = PairTable(test.proteins, test.pairs[:, ::-1], test.labels)
    assert score_composition(train, turned, sequences, 3).tolist() == scores.tolist()
    assert len(set(scores.tolist())) > 20
    # Trees cannot be fitted to one class.
    one_class = train.select(train.labels == 1)
    assert set(score_composition(one_class, test, sequences).tolist()) == {1.0}


def test_composition_draws_from_too_many_training_pairs(
    shared: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the seed: the same ones again, others with another."""
    monkeypatch.setattr(composition, "MOST_TRAINING_PAIRS", 60)
    drawn = []

    def remember(fractions: object, pairs: np.ndarray) -> np.ndarray:
        drawn.append(pairs)
        return np.random.default_rng(0).random((len(pairs), 2))

    monkeypatch.setattr(composition, "pair_features", remember)
    benchmark = open_tasks(shared, "pairs").sets[0].benchmark
    train = benchmark.pairs("train")
    for seed in (1, 1, 2):
        score_composition(train, train.select(np.arange(3)), benchmark.sequences(), seed)
    first, again, other = (pairs.tolist() for pairs in drawn[::2])
    assert len(first) == len({*map(tuple, first)}) == 60
    assert first == again != other


@pytest.mark.parametrize("cells", [1, 40, 4_000_000])
def test_best_interologs_are_those_of_brute_force(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proteins without any match and training proteins without a partner are among them."""
    monkeypatch.setattr(homology, "_BLOCK_CELLS", cells)
    rng = np.random.default_rng(5)
    shares = np.where(rng.random((9, 12)) < 0.3, rng.random((9, 12)), 0).astype(np.float32)
    shares[[0, 4, 8]] = 0
    interactions = rng.integers(0, 11, (14, 2))
    interactions[0] = 3, 3
    expected = np.zeros((9, 9))
    for a, b in product(range(9), repeat=2):
        for c, d in interactions.tolist():
            found = (shares[a, c] * shares[b, d], shares[a, d] * shares[b, c])
            expected[a, b] = max(expected[a, b], *found)
    blocks = list(best_interologs(interactions, csr_array(shares)))
    assert np.concatenate([best for _, best in blocks]) == pytest.approx(expected)
    assert (len(blocks) > 1) == (cells < 100)
    assert (expected > 0).any()


def test_homology_is_the_best_interolog_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """c–d is an interaction and c–e none; a is like c and e, b like d, and f like nothing."""
    train = labelled(("d", "c", 1), ("c", "e", 0), ("g", "g", 1))
    shares = {("a", "c"): 0.5, ("b", "d"): 0.25, ("b", "g"): 0.8, ("c", "c"): 1.0, ("a", "e"): 1.0}

    def match(queries: list[str], targets: list[str], method: object) -> Matches:
        found = [
            (queries.index(a), targets.index(b), share)
            for (a, b), share in shares.items()
            if a in queries and b in targets
        ]
        *pairs, values = np.array(sorted(found)).T
        return Matches(np.stack(pairs, axis=1).astype(np.int64), values, "k-mers")

    monkeypatch.setattr(homology, "match_sequences", match)
    table = every_pair("abcf")
    scores = score_homology(train, table, {name: name for name in "abcdefg"})
    named = [table.proteins[a] + table.proteins[b] for a, b in table.pairs.tolist()]
    # Rounded to float32.
    assert {pair: round(s, 6) for pair, s in zip(named, scores.tolist(), strict=True) if s} == {
        "ab": 0.125,
        "bb": 0.64,  # by g, which interacts with itself
        "bc": 0.25,
    }  # fmt: skip


def test_homology_finds_relatives_of_interacting_proteins(shared: TinyProject) -> None:
    """By their sequences alone: proteins that are copies of training proteins."""
    benchmark = open_tasks(shared, "pairs").sets[0].benchmark
    train, sequences = benchmark.pairs("train"), benchmark.sequences()
    named = [
        (train.proteins[a], train.proteins[b], int(label))
        for (a, b), label in zip(train.pairs.tolist(), train.labels, strict=True)
    ]
    copies = labelled(*((f"{a}'", f"{b}'", label) for a, b, label in named))
    texts = sequences | {f"{name}'": text for name, text in sequences.items()}
    scores = score_homology(train, copies, texts, "k-mers")
    assert (scores[copies.labels == 1] == 1).all()
    assert (scores[copies.labels == 0] < 1).all()


@pytest.mark.parametrize("cells", [1, 16_000_000])
def test_kernel_scores_follow_from_the_formula(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With inverse matrices in float64; a listed negative counts as little as an unlisted pair."""
    monkeypatch.setattr(kernel, "_BLOCK_CELLS", cells)
    rng = np.random.default_rng(3)
    train = labelled(("a", "b", 1), ("c", "c", 1), ("d", "a", 0), ("d", "e", 1), ("b", "a", 1))
    table = every_pair("axy")
    learned = rng.normal(size=(5, 4)).astype(np.float32)
    wanted = rng.normal(size=(3, 4)).astype(np.float32)

    def similarity(p: np.ndarray, q: np.ndarray) -> float:
        u, v = ((each - learned.mean(0)) / learned.std(0) for each in (p, q))
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        return float(np.exp(kernel.SHARPNESS * (cosine - 1)))

    within = np.array([[similarity(p, q) for q in learned] for p in learned])
    across = np.array([[similarity(p, q) for q in wanted] for p in learned])
    assert compare_proteins(learned, wanted) == pytest.approx(across, rel=1e-4)
    inverse = np.linalg.inv(within + kernel.RIDGE * np.eye(5))
    interacts = np.zeros((5, 5))
    for a, b in ((0, 1), (2, 2), (3, 4)):
        interacts[a, b] = interacts[b, a] = 1
    expected = across.T @ inverse @ interacts @ inverse @ across
    first, second = table.pairs.T
    scores = score_kernel(train, table, learned, wanted)
    assert scores == pytest.approx(expected[first, second], rel=1e-4)


def test_kernel_takes_so_many_training_proteins(
    shared: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The means are those of the language model's states; no model is trained."""
    side = open_tasks(shared, "pairs", "topology")
    whole, again = (by_pair(predict_baseline("kernel", side, seed)) for seed in (47, 48))
    assert whole == again
    assert len(whole) == 24 * 25 // 2
    assert len(set(whole.values())) > 200
    monkeypatch.setattr(kernel, "MOST_TRAINING_PROTEINS", 8)
    drawn = [by_pair(predict_baseline("kernel", side, seed)) for seed in (47, 47, 48)]
    assert whole != drawn[0] == drawn[1] != drawn[2]


def test_kernel_is_left_out_without_the_language_model(project: TinyProject) -> None:
    settings = ["evaluate.tasks=[pairs]", "data_config.embeddings.model_name=missing/model"]
    side = test_side.open_test_side(load_config(project.config, "evaluate", settings))
    with pytest.raises(BaselineLeftOutError, match="missing/model"):
        predict_baseline("kernel", side, 47)


@pytest.mark.parametrize("name", ["degree", "composition", "homology", "kernel"])
def test_without_training_pairs_they_say_so(name: str, project: TinyProject) -> None:
    (project.folder / "data" / "tiny" / "BFS" / "tiny_train_ppi.txt").unlink()
    with pytest.raises(NoTrainingPairsError, match=r"tiny \(BFS\) has no training pairs"):
        predict_baseline(name, open_tasks(project, "pairs"), 47)
