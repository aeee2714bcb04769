"""Proteins held out of training: which, what validates among them, and what is left to train on."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from common.config_data import STRATEGIES, Strategy, ValidationConfig
from common.data.held_out import HeldOut, find_held_out, join_positives, set_aside
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.inference.deciding import configure_as_trained
from tests.tiny_benchmark import TinyProject, call_main
from tests.tiny_run import configure

NAMES = [f"P{number:02d}" for number in range(60)]


def table_of(*pairs: tuple[int, int, int]) -> PairTable:
    rows = np.array(pairs)
    return PairTable.number(NAMES, rows[:, :2], rows[:, 2]).select(np.arange(len(rows)))


def draw_tables(seed: int, proteins: int = 60) -> tuple[PairTable, PairTable, PairTable]:
    """Train, validation and test pairs among the same proteins, no pair twice, self-pairs too."""
    rng = np.random.default_rng(seed)
    every = np.stack(np.triu_indices(proteins), axis=1)
    chosen = every[rng.permutation(len(every))[:400]]
    labels = np.where(np.equal(*chosen.T), 1, rng.integers(2, size=400))
    rows = np.column_stack([chosen, labels]).tolist()
    return table_of(*rows[:250]), table_of(*rows[250:320]), table_of(*rows[320:])


def disjoint(fraction: float = 0.5, walks: int = 3) -> ValidationConfig:
    return ValidationConfig(mode="protein_disjoint", fraction=fraction, walks=walks)


def named(table: PairTable, labels: tuple[int, ...] = (0, 1)) -> set[tuple[str, ...]]:
    """The pairs with these labels by their sorted names."""
    rows = table.pairs[np.isin(table.labels, labels)]
    return {tuple(sorted((table.proteins[a], table.proteins[b]))) for a, b in rows}


def sets_of(held_out: HeldOut) -> list[tuple[set[str], PairTable]]:
    """Every set's proteins and pairs."""
    ends = np.cumsum(held_out.counts)
    parts = np.split(np.arange(ends[-1]), ends[:-1])
    proteins = [{held_out.proteins[place] for place in walk} for walk in held_out.walks]
    return list(zip(proteins, [held_out.table.select(part) for part in parts], strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_out_is_in_no_training_pair_and_validates_in_disjoint_sets(
    strategy: Strategy, seed: int
) -> None:
    train, validation, test = draw_tables(seed)
    kept, held_out = set_aside(train, validation, [test], disjoint(), strategy, seed)
    aside = set(held_out.proteins)
    assert not aside & set(kept.proteins)
    assert named(kept) == {pair for pair in named(train) if not aside & set(pair)}
    positives = named(train, (1,)) | named(validation, (1,))
    known = positives | named(test, (1,))
    sets = sets_of(held_out)
    assert [len(proteins) for proteins, _ in sets] == [10, 10, 10]
    assert set().union(*(proteins for proteins, _ in sets)) == aside
    for proteins, pairs in sets:
        assert named(pairs, (1,)) == {pair for pair in positives if proteins.issuperset(pair)}
        assert not named(pairs, (0,)) & known
        assert set(pairs.proteins) <= proteins
        assert len(named(pairs, (0,))) == len(named(pairs, (1,))) == len(pairs) / 2
    region = {pair for pair in positives if aside.issuperset(pair)}
    assert len(held_out.edges) == len(region)
    assert held_out.prevalence == len(region) / (30 * 31 / 2)


def test_the_sets_follow_from_the_seed_and_from_the_kind_of_walk() -> None:
    tables = draw_tables(0)
    drawn = {
        (strategy, seed): set_aside(*tables[:2], [], disjoint(), strategy, seed)[1]
        for strategy in STRATEGIES
        for seed in (1, 2)
    }
    again = set_aside(*tables[:2], [], disjoint(), "DFS", 2)[1]
    assert again.proteins == drawn["DFS", 2].proteins
    assert (again.table.pairs == drawn["DFS", 2].table.pairs).all()
    assert len({held_out.proteins for held_out in drawn.values()}) == 6


def test_walks_stay_within_a_part_of_the_network_that_is_large_enough() -> None:
    """Of two parts without a link, a set of one part's size is one of the two."""
    parts = [(a + k, b + k, 1) for k in (0, 6) for a in range(6) for b in range(a + 1, 6)]
    train = table_of(*[pair for pair in parts if pair[:2] not in ((0, 1), (6, 7))])
    kept, held_out = set_aside(train, table_of((0, 1, 0)), [], disjoint(0.5, 1), "BFS", 0)
    assert set(held_out.proteins) in (set(NAMES[:6]), set(NAMES[6:12]))
    assert held_out.counts == (15,)  # 14 interact, and one pair is left to be a negative
    assert len(kept) == 14


def test_positives_of_all_tables_are_joined_once() -> None:
    one, other = table_of((3, 1, 1), (1, 2, 0)), table_of((1, 3, 1), (4, 4, 1))
    proteins, edges = join_positives([one, other])
    assert proteins == ("P01", "P03", "P04")
    assert edges.tolist() == [[0, 1], [2, 2]]


def test_validation_proteins_that_no_training_pair_contains_are_held_out_already() -> None:
    train, validation = table_of((0, 1, 1)), table_of((2, 3, 1), (3, 2, 1), (4, 4, 1), (2, 5, 0))
    held_out = find_held_out(train, validation)
    assert held_out is not None
    assert held_out.proteins == ("P02", "P03", "P04", "P05")
    assert held_out.edges.tolist() == [[0, 1], [2, 2]]
    assert held_out.prevalence == 2 / 10
    assert find_held_out(train, table_of((1, 2, 1))) is None


STAR = table_of(*[(0, leaf, 1) for leaf in range(1, 30)])


@pytest.mark.parametrize(
    ("fraction", "walks", "says"),
    [
        (0.2, 2, r"2 sets of 3 proteins .* at least 4 .*; raise data_config\.validation\.fraction"),
        # The first set takes the hub, and no leaf interacts with another.
        (0.8, 3, r"set 2 of the 3 sets .* only one class .*; raise .*fraction \(0\.8\)"),
        (0.8, 1, r"each of the 29 training pairs contains .* \(24 proteins\); lower"),
    ],
)
def test_too_small_a_network_is_refused_in_a_sentence(
    fraction: float, walks: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        set_aside(STAR, table_of((0, 1, 1)), [], disjoint(fraction, walks), "BFS", 0)


def disjoint_by_command(fraction: float) -> str:
    return f"data_config.validation={{mode: protein_disjoint, fraction: {fraction}, walks: 2}}"


DENSITY = "evaluate.decision_threshold.mode=match_density"


def test_a_stage_logs_both_validations_and_monitors_that_of_held_out_proteins(
    project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    call_main(project, "pretrain.py", "--set", disjoint_by_command(0.5), DENSITY)
    logs = next(project.output.glob("logs/v3/pretrain/*"))
    monitored = list(csv.DictReader((logs / "training_step.csv").open()))
    sets = list(csv.DictReader((logs / "validation.csv").open()))
    assert list(sets[0]) == ["epoch", "set", "pairs", "loss", "auroc", "auprc"]
    names = ["walk_1", "walk_2", "mean", "benchmark"]
    assert [(row["epoch"], row["set"]) for row in sets] == [(e, n) for e in "12" for n in names]
    log = (logs / "log.log").read_text()
    for epoch, row in enumerate(monitored):
        walks, mean, benchmark = sets[4 * epoch :][:2], sets[4 * epoch + 2], sets[4 * epoch + 3]
        for name in ("loss", "auroc", "auprc"):
            average = np.mean([float(each[name]) for each in walks])
            column = row["Val Loss" if name == "loss" else f"Val {name}"]
            assert float(column) == float(mean[name]) == pytest.approx(average, rel=1e-12)
        assert f"benchmark_val_auroc={float(benchmark['auroc']):.6g}" in log
        assert benchmark["pairs"] == "30"
    assert "set_aside=20 proteins in 2 sets, " in log

    best = Path(capsys.readouterr().out.strip().splitlines()[-1])
    decision = json.loads((best / "decision.json").read_text())
    epoch = decision["epoch"]
    assert decision["validation"]["auroc"] == float(monitored[epoch - 1]["Val auroc"])
    check_judging(project, capsys, decision["threshold"])
    check_finetuning(project, capsys)


def check_judging(project: TinyProject, capsys: pytest.CaptureFixture[str], stored: float) -> None:
    """The stored threshold counts where it was chosen as asked; the seed of judging does not."""
    chosen = []
    for more in (
        [],
        ["evaluate.decision_threshold.density=0.3"],
        ["run_config.seed=5", "evaluate.strategies=[BFS]"],
    ):
        call_main(project, "evaluate.py", "--set", DENSITY, *more)
        found = re.findall(r"stage_start .*threshold=(\S+)", capsys.readouterr().err)
        chosen.append(float(found[-1]))
    assert chosen[0] == chosen[2] == pytest.approx(stored, rel=1e-5)
    assert chosen[1] != chosen[0]


def check_finetuning(project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    """Proteins that pretraining has seen are not new, and the log says so."""
    call_main(project, "finetune.py", "--set", disjoint_by_command(0.5), DENSITY)
    assert "held_out_proteins_seen" not in capsys.readouterr().err
    call_main(project, "finetune.py", "--set", disjoint_by_command(0.4))
    assert "held_out_proteins_seen" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["match_density", "precision"])
def test_a_threshold_for_networks_is_refused_where_no_proteins_are_held_out(
    project: TinyProject, mode: str
) -> None:
    asked = f"evaluate.decision_threshold.mode={mode}"
    sentence = rf"mode: {mode} needs .* tiny BFS .*data_config\.validation\.mode: protein_disjoint"
    with pytest.raises(UserError, match=sentence):
        call_main(project, "pretrain.py", "--set", asked)
    # Before anything was embedded, or trained.
    assert not (project.folder / "cache" / "embeddings").exists()


def test_held_out_proteins_are_those_of_the_checkpoints_training() -> None:
    """Its seed, split and rules; only the places of files are those of now."""
    trained = configure(
        run_config={"seed": 3},
        data_config={
            "benchmark": {"root_dir": "old", "missing_sequences": "drop"},
            "validation": {"mode": "protein_disjoint", "fraction": 0.3},
        },
    )
    now = configure(
        run_config={"seed": 4},
        data_config={"benchmark": {"root_dir": "new"}, "embeddings": {"cache_dir": "mine"}},
    )
    found = configure_as_trained(trained, now)
    assert found.data.validation == trained.data.validation
    assert found.run.seed == 3
    assert found.data.embeddings.cache_dir == "mine"
    benchmark = found.data.benchmark
    assert (benchmark.root_dir, benchmark.missing_sequences) == ("new", "drop")
    other = configure(data_config={"benchmark": {"root_dir": "new", "species": "yeast"}})
    assert configure_as_trained(trained, other).data.benchmark == trained.data.benchmark
    # The benchmark's own validation pairs are those of the species that is judged.
    own = configure(data_config={"benchmark": {"root_dir": "old"}})
    asked = now.model_copy(update={"data": trained.data})
    assert configure_as_trained(own, asked).data.benchmark == asked.data.benchmark
    assert configure_as_trained(own, asked).data.validation.mode == "benchmark"


def test_the_benchmarks_own_validation_leaves_no_further_table(
    pretrained: tuple[TinyProject, Path],
) -> None:
    logs = next(pretrained[0].output.glob("logs/v3/pretrain/*"))
    assert not (logs / "validation.csv").exists()
    assert "benchmark_val" not in (logs / "log.log").read_text()
