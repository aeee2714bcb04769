"""Output formats: what other programs read back is what was written, also of odd names."""

from __future__ import annotations

import csv
import gzip
import io
import re
from pathlib import Path

import igraph  # type: ignore[import-untyped]
import networkx as nx
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from common.data.tables.interactions.base import ReadOptions
from common.data.tables.interactions.reading import read_interactions
from common.errors import UserError
from common.evaluation.export import parquet
from common.evaluation.export.base import Output, Proteins, Rows, format_of
from common.evaluation.export.mitab import COLUMNS, identify
from common.evaluation.export.picture import Picture
from common.evaluation.prediction_file import read_predictions
from common.registry import WRITERS

ODD = ("P12345", 'a"b,c', "<x>&'y'", "sp|odd", "naïve", "d:e(f)", "Q9H0H5-2")
EDGES = [(0, 1, 0.1 + 0.2, 1), (0, 2, 1e-9, 0), (3, 3, 1.0, 1), (4, 5, 1 / 3, 1)]
DESCRIPTIONS = {"P12345": 'Tom & "Jerry"\t<kinase>', "naïve": "größer"}


def proteins_of(ids: tuple[str, ...] = ODD, listed: bool = True) -> Proteins:
    count = len(ids)
    return Proteins(ids, np.arange(count) + 10, DESCRIPTIONS, np.arange(count if listed else 0))


def rows_of(edges: list[tuple[int, int, float, int]]) -> Rows:
    first, second, scores, calls = ([edge[place] for edge in edges] for place in range(4))
    columns = (np.array(first, np.int64), np.array(second, np.int64))
    return Rows(*columns, np.array(scores, np.float64), np.array(calls, np.int8))


def write(path: Path, edges: list[tuple[int, int, float, int]], proteins: Proteins) -> Path:
    """Write in two parts."""
    folder = path.parent / "partial"
    folder.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    output = Output(path, folder)
    writer = format_of(path).open(output, proteins)
    writer.write(rows_of(edges[:2]))
    writer.write(rows_of(edges[2:]))
    writer.close()
    assert not path.exists()
    output.publish()
    return path


def expected_of(proteins: Proteins, edges: list[tuple[int, int, float, int]]) -> list[list[str]]:
    ids = proteins.ids
    return [[ids[a], ids[b], repr(score), str(call)] for a, b, score, call in edges]


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "txt", "csv", "parquet"])
@pytest.mark.parametrize("edges", [EDGES, []])
def test_tables_give_back_the_same_pairs(
    tmp_path: Path, suffix: str, edges: list[tuple[int, int, float, int]]
) -> None:
    proteins = proteins_of()
    path = write(tmp_path / f"net.{suffix}", edges, proteins)
    if suffix == "parquet":
        table = pq.read_table(path)
        rows = [table.column_names, *([a, b, repr(p), str(c)] for a, b, p, c in
                zip(*table.to_pydict().values(), strict=True))]  # fmt: skip
    else:
        content = path.read_bytes()
        text = (gzip.decompress(content) if suffix.endswith("gz") else content).decode()
        if suffix == "csv":
            rows = list(csv.reader(io.StringIO(text)))
        else:
            rows = [line.split("\t") for line in text.splitlines()]
    assert rows[0] == ["protein_a", "protein_b", "probability", "call"]
    found = [[a, b, repr(float(score)), call] for a, b, score, call in rows[1:]]
    assert found == expected_of(proteins, edges)


def test_the_same_network_gives_the_same_packed_bytes(tmp_path: Path) -> None:
    one = write(tmp_path / "one.tsv.gz", EDGES, proteins_of()).read_bytes()
    assert one == write(tmp_path / "two.tsv.gz", EDGES, proteins_of()).read_bytes()


def test_parquet_has_groups_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP", 3)
    path = write(tmp_path / "net.parquet", [*EDGES, *EDGES], proteins_of())
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [3, 3, 2]


IDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)
NETWORKS = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda pair: (min(pair), max(pair))),
    st.floats(0, 1),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.sets(IDS, min_size=5, max_size=5), network=NETWORKS)
def test_networkx_reads_the_same_network_of_any_names(
    tmp_path: Path, ids: set[str], network: dict[tuple[int, int], float]
) -> None:
    proteins = proteins_of(tuple(sorted(ids)))
    edges = [(a, b, score, int(score > 0.5)) for (a, b), score in network.items()]
    graph = nx.read_graphml(write(tmp_path / "net.graphml", edges, proteins))
    assert set(graph) == ids
    assert {frozenset(edge): data for *edge, data in graph.edges(data=True)} == {
        frozenset((proteins.ids[a], proteins.ids[b])): {"probability": score, "call": call}
        for a, b, score, call in edges
    }
    assert {name: data["degree"] for name, data in graph.nodes(data=True)} == dict(graph.degree())


def test_graphml_has_what_the_fasta_says_of_nodes(tmp_path: Path) -> None:
    graph = nx.read_graphml(write(tmp_path / "net.graphml", EDGES, proteins_of()))
    assert not graph.is_directed()
    assert graph.nodes["P12345"] == {
        "length": 10, "description": 'Tom & "Jerry" <kinase>', "degree": 2,
    }  # fmt: skip
    assert graph.nodes["Q9H0H5-2"]["degree"] == 0
    alone = nx.read_graphml(write(tmp_path / "some.graphml", EDGES, proteins_of(listed=False)))
    assert "Q9H0H5-2" not in alone


def test_igraph_opens_graphml(tmp_path: Path) -> None:
    graph = igraph.Graph.Read_GraphML(str(write(tmp_path / "net.graphml", EDGES, proteins_of())))
    assert not graph.is_directed()
    # igraph leaves an ampersand of an XML attribute as the XML library gives it, in a number.
    assert [name.replace("&#38;", "&") for name in graph.vs["id"]] == list(ODD)
    assert graph.vs["length"] == [10 + place for place in range(len(ODD))]
    assert graph.get_edgelist() == [edge[:2] for edge in EDGES]
    assert graph.es["probability"] == [edge[2] for edge in EDGES]
    assert graph.es["call"] == [edge[3] for edge in EDGES]


def test_sif_and_its_tables_name_the_same_edges(tmp_path: Path) -> None:
    write(tmp_path / "net.sif", EDGES, proteins_of())
    lines = (tmp_path / "net.sif").read_text().splitlines()
    assert lines[0] == 'P12345\tpp\ta"b,c'
    assert lines[len(EDGES) :] == ["Q9H0H5-2"]
    edges = [line.split("\t") for line in (tmp_path / "net.edges.tsv").read_text().splitlines()]
    named = [line.replace("\tpp\t", " (pp) ") for line in lines[: len(EDGES)]]
    assert [edge[0] for edge in edges[1:]] == named
    assert [float(edge[1]) for edge in edges[1:]] == [edge[2] for edge in EDGES]
    nodes = [line.split("\t") for line in (tmp_path / "net.nodes.tsv").read_text().splitlines()]
    assert nodes[0] == ["name", "length", "description", "degree"]
    assert nodes[1] == ["P12345", "10", 'Tom & "Jerry" <kinase>', "2"]
    assert [node[0] for node in nodes[1:]] == list(ODD)


def test_mitab_has_the_columns_of_2_7_and_is_read_back(tmp_path: Path) -> None:
    """The names and places are those of the specification, https://github.com/HUPO-PSI/miTab."""
    path = write(tmp_path / "net.mitab", EDGES[:2], proteins_of(("P12345", "P67890", "Q9H0H5-2")))
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    assert len(header) == 42
    assert header[0] == "#ID(s) interactor A"
    assert [header[place - 1] for place in (7, 12, 15, 36, 42)] == [
        "Interaction detection method(s)", "Interaction type(s)", "Confidence value(s)",
        "Negative", "Identification method participant B",
    ]  # fmt: skip
    assert {len(line) for line in lines} == {42}
    first = {place: cell for place, cell in enumerate(lines[0], 1) if cell != "-"}
    no_role = 'psi-mi:"MI:0499"(unspecified role)'
    assert first == {
        1: "uniprotkb:P12345", 2: "uniprotkb:P67890",
        7: 'psi-mi:"MI:0063"(interaction prediction)',
        10: "taxid:-3(unknown)", 11: "taxid:-3(unknown)",
        12: 'psi-mi:"MI:1110"(predicted interaction)',
        15: "relic-probability:0.30000000000000004",
        17: no_role, 18: no_role, 19: no_role, 20: no_role,
        21: 'psi-mi:"MI:0326"(protein)', 22: 'psi-mi:"MI:0326"(protein)',
        29: "taxid:-5(in silico)", 36: "false",
    }  # fmt: skip
    known = frozenset({"P12345", "P67890", "Q9H0H5"})
    read = read_interactions([str(path)], "mitab", ReadOptions(None, None, known, {}))
    assert sorted(read.ids) == ["P12345", "P67890", "Q9H0H5"]
    assert len(set(COLUMNS)) == 42


# A field as the specification defines it: <XREF>:<VALUE>(<DESCRIPTION>), each part quoted if it has
# a reserved character, with a backslash before a quote within quotes.
_PART = r'(?:[^|():"\t]+|"(?:[^"\t\\]|\\")*")'
_FIELD = re.compile(rf"{_PART}:({_PART})(?:\({_PART}\))?")


def test_every_cell_of_mitab_has_the_syntax_of_the_specification(tmp_path: Path) -> None:
    path = write(tmp_path / "net.mitab", EDGES, proteins_of())
    _, *lines = (line.split("\t") for line in path.read_text().splitlines())
    for line in lines:
        assert line.pop(35) == "false"
        assert all(cell == "-" or _FIELD.fullmatch(cell) for cell in line)
    found = [[field[1] for cell in line[:2] if (field := _FIELD.fullmatch(cell))] for line in lines]
    unquoted = [[re.sub(r'^"|"$', "", name).replace('\\"', '"') for name in pair] for pair in found]
    assert unquoted == [[ODD[a], ODD[b]] for a, b, *_ in EDGES]


def test_ids_that_mitab_reserves_are_quoted() -> None:
    assert identify("A0A024RBG1") == "uniprotkb:A0A024RBG1"
    assert identify("ENSP0001.2") == "unknown:ENSP0001.2"
    assert identify('d:"e"(f)') == 'unknown:"d:\\"e\\"(f)"'


def test_a_table_can_be_judged_and_read_by_networkx_as_documented(tmp_path: Path) -> None:
    path = write(tmp_path / "net.tsv", EDGES, proteins_of())
    predictions = read_predictions(path)
    assert len(predictions.pairs) == len(EDGES)
    # `tail -n +2 net.tsv | cut -f 1-3`
    cut = (tmp_path / "cut.tsv").open("w")
    with cut:
        for line in path.read_text().splitlines()[1:]:
            cut.write(line.rpartition("\t")[0] + "\n")
    graph = nx.read_weighted_edgelist(tmp_path / "cut.tsv", delimiter="\t", comments=None)
    assert graph.edges[ODD[4], ODD[5]]["weight"] == 1 / 3


def test_a_suffix_of_no_format_is_refused_with_all_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"net\.xlsx has no suffix .* \.tsv, \.tsv\.gz, .*\.mitab"):
        format_of(tmp_path / "net.xlsx")
    assert format_of(Path("NET.TSV.GZ")) is WRITERS.get("tsv")


def test_a_picture_is_drawn_of_a_small_network_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in (("small.png", 300), ("large.png", 3)):
        monkeypatch.setattr("common.evaluation.export.picture.MOST_NODES", most)
        picture = Picture(tmp_path / name, proteins_of(("a$b$", *ODD[1:])), only_called=True)
        picture.write(rows_of(EDGES))
        picture.close()
    assert (tmp_path / "small.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "large.png").exists()


def test_proteins_without_a_partner_are_counted_and_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spread around the others, they made the network small; a protein is not its own partner."""
    drawn: list[Figure] = []
    place = "common.evaluation.export.picture.save_plot"
    monkeypatch.setattr(place, lambda figure, _: drawn.append(figure))
    picture = Picture(tmp_path / "net.png", proteins_of(), only_called=True)
    picture.write(rows_of([*EDGES, (4, 4, 0.9, 1)]))
    picture.close()
    (axes,) = drawn[0].axes
    title = axes.get_title(loc="left")
    assert title == "4 proteins, 3 pairs\nnot drawn: 3 proteins without a partner"
    (places,) = (each for each in axes.collections if isinstance(each, PathCollection))
    assert np.shape(places.get_offsets()) == (4, 2)
