"""Networks of own proteins: what the command line chooses, and the same from Python."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.inference.predictor import Predictor
from tests.tiny_benchmark import SPECIES, TinyProject, call_main
from tests.tiny_pairs import one_process

Shared = tuple[TinyProject, Path]


def proteins_of(project: TinyProject, count: int = 8, first: int = 40) -> dict[str, str]:
    fasta = project.folder / "data" / SPECIES / f"{SPECIES}_simple.fasta"
    lines = fasta.read_text().splitlines()[2 * first : 2 * (first + count)]
    return {name[1:]: text for name, text in zip(lines[::2], lines[1::2], strict=True)}


def write_fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} of {name}\n{text}\n" for name, text in sequences.items()))
    return path


def predict(shared: Shared, *arguments: str | Path) -> None:
    project, best = shared
    call_main(project, "evaluate.py", "--checkpoint", str(best), *map(str, arguments), config=False)


def read(path: Path) -> dict[tuple[str, str], tuple[float, int]]:
    _, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return {(a, b): (float(score), int(call)) for a, b, score, call in lines}


@pytest.fixture
def fasta(pretrained: Shared, tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "own.fasta", proteins_of(pretrained[0]))


def test_all_against_all_in_every_format_is_one_network(
    pretrained: Shared, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(proteins_of(pretrained[0]))
    plot = tmp_path / "net.png"
    predict(pretrained, "--fasta", fasta, "--output", tmp_path / "net.tsv", "--plot", plot)
    table = read(tmp_path / "net.tsv")
    assert list(table) == list(itertools.combinations(names, 2))
    assert plot.exists()
    said = capsys.readouterr().out.splitlines()
    called = sum(call for _, call in table.values())
    file = tmp_path / "net.tsv"
    assert said[0].startswith(f"28 pairs of 8 proteins were scored, and 28 were written to {file};")
    why = "are predicted to interact, because their probability is at least "
    none = "none is predicted to interact, because no probability is at least "
    assert f"; {f'{called} {why}' if called else none}" in said[0]
    threshold = json.loads((pretrained[1] / "decision.json").read_text())["threshold"]
    # The random model predicts that all pairs interact, or none.
    trained = (
        " Of the predicted interactions, 0 were training pairs of the model." if called else ""
    )
    assert said[0].endswith(
        f"{threshold:.4g} (fixed in the model's training configuration).{trained}"
    )
    assert "was trained on pring (tiny, BFS)" in said[1]
    assert said[1].endswith("opens in any spreadsheet, pandas, R or networkx.")
    limit = ["--threshold", str(sorted(score for score, _ in table.values())[14])]
    likely = {pair: score for pair, (score, _) in table.items() if score >= float(limit[1])}
    assert len(likely) == 14
    for suffix in ("graphml", "parquet"):
        predict(pretrained, "--fasta", fasta, "--output", tmp_path / f"net.{suffix}", *limit)
    graph = nx.read_graphml(tmp_path / "net.graphml")
    assert set(graph) == set(names)
    assert graph.nodes[names[0]]["description"] == f"of {names[0]}"
    assert {(a, b): score for a, b, score in graph.edges(data="probability")} == likely
    columns = pq.read_table(tmp_path / "net.parquet").to_pydict()
    assert dict(zip(zip(*list(columns.values())[:2], strict=True), columns["probability"],
                    strict=True)) == likely  # fmt: skip
    assert set(columns["call"]) == {1}
    assert not list(tmp_path.glob(".*"))


def test_a_network_format_has_only_called_pairs_unless_others_are_chosen(
    pretrained: Shared, fasta: Path, tmp_path: Path
) -> None:
    never = ["--set", "evaluate.decision_threshold.value=1.0"]
    given: list[str | Path] = ["--fasta", fasta, "--output", tmp_path / "net.sif"]
    predict(pretrained, *given, *never)
    assert (tmp_path / "net.sif").read_text().split() == sorted(proteins_of(pretrained[0]))
    predict(pretrained, *given, "--density", "0.5")
    lines = (tmp_path / "net.sif").read_text().splitlines()
    assert sum("\tpp\t" in line for line in lines) == 14


def test_queries_meet_all_others_and_keep_their_best_partners(
    pretrained: Shared, fasta: Path, tmp_path: Path
) -> None:
    names = sorted(proteins_of(pretrained[0]))
    predict(pretrained, "--fasta", fasta, "--output", tmp_path / "all.tsv")
    everything = read(tmp_path / "all.tsv")
    (tmp_path / "baits.txt").write_text(f"# two of them\n{names[5]}\nsp|{names[1]}|X\n")
    predict(pretrained, "--fasta", fasta, "--output", tmp_path / "query.tsv",
            "--query", tmp_path / "baits.txt")  # fmt: skip
    found = read(tmp_path / "query.tsv")
    pairs = [(names[5], other) for other in names if other != names[5]]
    pairs += [(names[1], other) for other in names if other not in (names[1], names[5])]
    assert list(found) == pairs
    for (a, b), (score, _) in found.items():
        expected, _ = everything[min(a, b), max(a, b)]
        assert score == pytest.approx(expected, abs=1e-6)
    predict(pretrained, "--fasta", fasta, "--output", tmp_path / "best.tsv",
            "--query", names[5], "--top-k", "3")  # fmt: skip
    best = sorted(pairs[:7], key=lambda pair: -found[pair][0])[:3]
    assert list(read(tmp_path / "best.tsv")) == sorted(best)


def test_one_file_meets_the_other(pretrained: Shared, tmp_path: Path) -> None:
    hosts = write_fasta(tmp_path / "host.fasta", proteins_of(pretrained[0], 3, 40))
    viruses = write_fasta(tmp_path / "virus.fasta", proteins_of(pretrained[0], 2, 60))
    predict(pretrained, "--bipartite", "--fasta", hosts, "--fasta", viruses, "--output",
            tmp_path / "net.tsv")  # fmt: skip
    expected = itertools.product(("P040", "P041", "P042"), ("P060", "P061"))
    assert list(read(tmp_path / "net.tsv")) == list(expected)


def test_listed_pairs_with_labels_are_judged_and_unknown_ones_left_out(
    pretrained: Shared, fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("protein_a protein_b label\nP040 P041 1\nX1 P041 1\nP043 P042 0\nX2 X1 0\n")
    given: list[str | Path] = ["--fasta", fasta, "--output", tmp_path / "net.tsv", "--pairs", pairs]
    unknown = r"of 'X1' and of 1 more \(X2\), which affects 2 of 4 pairs; .*--skip-unknown"
    with pytest.raises(UserError, match=rf"pairs.txt, line 3: .*{unknown}"):
        predict(pretrained, *given)
    predict(pretrained, *given, "--skip-unknown", "--top-k", "1")
    told = capsys.readouterr().err
    assert "pairs_left_out" in told
    assert "proteins=2 | pairs=2 | such_as=X1,X2" in told
    assert "own_pairs_judged | positives=1 | negatives=1 | auroc=" in told
    assert len(read(tmp_path / "net.tsv")) == 1


def test_it_works_from_any_directory_with_the_paths_of_the_training(
    pretrained: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The language model was looked for relative to the current directory only."""
    project, best = pretrained
    moved = tmp_path / "project"
    shutil.copytree(best, moved / "runs" / "best_model")
    shutil.copytree(project.folder / "esm", moved / "esm")
    shutil.copytree(project.folder / "cache", moved / "cache")
    config = moved / "runs" / "best_model" / "config.yaml"
    config.write_text(config.read_text().replace(f"{project.folder}/", ""))
    assert "model_name: esm" in config.read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    write_fasta(Path("own.fasta"), proteins_of(project, 3))
    predict((project, config.parent), "--fasta", "own.fasta", "--output", "net.tsv")
    assert len(read(Path("net.tsv"))) == 3
    assert sorted(path.name for path in elsewhere.iterdir()) == ["net.tsv", "own.fasta"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query", "P040", "--pairs", "own.fasta"], "--pairs and --query cannot be combined"),
        (["--bipartite"], "--fasta options is 1; give --fasta twice with --bipartite"),
        (["--fasta", "own.fasta"], "--fasta options is 2"),
        (["--query", "P040,Q1"], r"--query P040,Q1: .* of 'Q1', which affects 1 of 2 query"),
        (["--query", ","], "names no protein"),
        (["--density", "0.1", "--top-k", "2"], "a density cannot be combined"),
        (["--plot", "own.fasta"], "--plot own.fasta is one of the inputs"),
    ],
)
def test_a_request_that_makes_no_sense_is_rejected(
    pretrained: Shared,
    fasta: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(fasta.parent)
    with pytest.raises(UserError, match=message):
        predict(pretrained, "--fasta", "own.fasta", "--output", "net.tsv", *arguments)
    assert not Path("net.tsv").exists()


def test_a_single_protein_has_a_pair_only_with_itself(pretrained: Shared, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "one.fasta", proteins_of(pretrained[0], 1))
    given: list[str | Path] = ["--fasta", fasta, "--output", tmp_path / "net.tsv"]
    with pytest.raises(UserError, match=r"no pairs can be formed .*; give at least two proteins"):
        predict(pretrained, *given)
    predict(pretrained, *given, "--self-pairs")
    assert list(read(tmp_path / "net.tsv")) == [("P040", "P040")]


def test_python_gives_what_the_command_writes(
    pretrained: Shared, fasta: Path, tmp_path: Path
) -> None:
    predict(pretrained, "--fasta", fasta, "--output", tmp_path / "net.tsv", "--top-k", "2")
    table = read(tmp_path / "net.tsv")
    sequences = proteins_of(pretrained[0])
    predictor = Predictor.load(pretrained[1], accelerator=one_process())
    graph = predictor.network(sequences, top_k=2)
    found = {
        (*sorted(edge),): (float(f"{d['probability']:.6g}"), d["call"])
        for *edge, d in graph.edges.data()
    }
    assert found == table
    assert set(graph) == set(sequences)
    pairs = [(b, a) for a, b in table] + list(table)[:1]
    scores = predictor.score(pairs, sequences)
    expected = [score for score, _ in table.values()]
    assert scores == pytest.approx([*expected, expected[0]], abs=1e-6)
    assert predictor.score([], sequences).shape == (0,)
    with pytest.raises(UserError, match="1 of 2 proteins have no sequence, such as 'Q1'"):
        predictor.score([("P040", "Q1")], sequences)
    star = predictor.network(sequences, queries=["P041"], threshold=0.0)
    assert sorted(star["P041"]) == [name for name in sorted(sequences) if name != "P041"]
    assert not np.isnan([score for *_, score in star.edges(data="probability")]).any()
