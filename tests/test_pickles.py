"""Pickles from outside: graphs come out as networkx reads them, and nothing else gets in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from common.data.benchmarks.pickles import load_go_terms, load_graph, load_graphs, load_node_sets
from common.errors import UserError
from tests.tiny_benchmark import ROOT

SHARED = Path(__file__).parents[2] / "shared"
needs_pring = pytest.mark.skipif(
    not (SHARED / "pring").is_dir(), reason="needs the real PRING files"
)
GRAPH_FILES = [
    "pring/yeast/yeast_test_graph.pkl",
    "pring/ecoli/ecoli_test_graph.pkl",
    "pring/ecoli/ecoli_graph.pkl",
    "pring_nested/yeast/BFS/yeast_test_graph.pkl",
    "pring_nested/human/BFS/human_test_graph.pkl",
]


def dump(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def triangle() -> nx.Graph:
    return nx.Graph([("a", "b"), ("b", "c"), ("c", "a"), ("c", "c"), ("c", "d")])


@needs_pring
@pytest.mark.parametrize("name", GRAPH_FILES)
def test_real_graphs_equal_what_networkx_makes_of_them(name: str) -> None:
    path = SHARED / name
    with path.open("rb") as file:
        trusted = nx.Graph(pickle.load(file))
    graph = load_graph(path)
    assert nx.utils.graphs_equal(graph, trusted)
    assert nx.number_of_selfloops(graph) == nx.number_of_selfloops(trusted) > 0


@needs_pring
def test_the_real_human_test_network_has_its_published_size() -> None:
    graph = load_graph(SHARED / "pring_nested/human/BFS/human_test_graph.pkl")
    assert (len(graph), graph.number_of_edges()) == (2018, 32019)


@pytest.mark.pipeline
@needs_pring
def test_real_node_sets_complexes_and_go_terms_equal_a_trusting_read() -> None:
    for name in ("pring/yeast/yeast_BFS_sampled_nodes.pkl", "pring_functional/test_go_terms.pkl"):
        trusted = pickle.loads((SHARED / name).read_bytes())
        load: Any = load_node_sets if "nodes" in name else load_go_terms
        assert load(SHARED / name) == trusted
    path = SHARED / "pring_functional/complex_graphs.pkl"
    pairs = zip(load_graphs(path), pickle.loads(path.read_bytes()), strict=True)
    assert all(nx.utils.graphs_equal(graph, nx.Graph(trusted)) for graph, trusted in pairs)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_graphs_and_frozen_views_of_any_protocol_become_plain_graphs(
    tmp_path: Path, triangle: nx.Graph, protocol: int
) -> None:
    view = triangle.subgraph(["a", "b", "c"])
    assert (view.degree["c"], list(view.edges), list(view.nodes), view.adj) is not None  # cached
    for content in (triangle, view, view.subgraph(["b", "c"]), nx.freeze(triangle.copy())):
        graph = load_graph(dump(tmp_path / "g.pkl", content, protocol))
        assert set(graph) == set(content)
        assert nx.utils.edges_equal(graph.edges, content.edges)
        graph.add_edge("new", "node")


def test_attributes_stay_behind(tmp_path: Path) -> None:
    graph = nx.Graph(name="x")
    graph.add_node("a", colour="red")
    graph.add_edge("a", "b", weight=3)
    read = load_graph(dump(tmp_path / "g.pkl", graph))
    assert (read.graph, dict(read.nodes["a"]), read.edges["a", "b"]) == ({}, {}, {})


class Malicious:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("load", [load_graph, load_graphs, load_node_sets, load_go_terms])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused_by_name_and_runs_nothing(
    tmp_path: Path, load: Any, protocol: int
) -> None:
    marker = tmp_path / "marker"
    path = dump(tmp_path / "bad.pkl", Malicious(os.system, f"touch {marker}"), protocol)
    with pytest.raises(UserError, match=rf"bad\.pkl contains {os.name}\.system,.* run code"):
        load(path)
    assert not marker.exists()


@pytest.mark.parametrize("function", [eval, getattr, __import__, nx.path_graph])
def test_code_hidden_in_a_graphs_attributes_is_refused(
    tmp_path: Path, triangle: nx.Graph, function: Any
) -> None:
    triangle.nodes["a"]["x"] = Malicious(function, "1")
    name = rf"{function.__module__}\.{function.__name__}"
    with pytest.raises(UserError, match=rf"contains {name},"):
        load_graph(dump(tmp_path / "bad.pkl", triangle))


def test_admitted_names_cannot_be_altered_for_the_next_file(
    tmp_path: Path, triangle: nx.Graph
) -> None:
    """A BUILD opcode on a class, not an instance, would set attributes for the whole process."""
    for module, name in [("networkx.classes.graph", "Graph"), ("builtins", "set")]:
        stream = f"c{module}\n{name}\n".encode() + b"N}X\x07\x00\x00\x00__new__Ns\x86b."
        with pytest.raises(UserError):
            load_graph(raw(tmp_path / "bad.pkl", b"\x80\x02" + stream))
    assert len(load_graph(dump(tmp_path / "g.pkl", triangle, 2))) == 4
    assert load_node_sets(dump(tmp_path / "n.pkl", {1: [{"a"}]}, 2)) == {1: [frozenset("a")]}


BOMBS = {
    "nested lists": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "nested tuples as a key": b"\x80\x04})" + b"\x85" * 200_000 + b"Ns.",
    "tuples in a set": b"\x80\x04\x8f()" + b"\x85" * 200_000 + b"\x90.",
    "tuples, frozen set": b"\x80\x04()" + b"\x85" * 200_000 + b"\x91.",
    "tuples, protocol 0": b"(" + b")" + b"\x85" * 200_000 + b"Nd.",
    "set call": b"\x80\x02c__builtin__\nset\n])" + b"\x85" * 200_000 + b"a\x85R.",
    "2 ** 80 hashes": b"\x80\x04})" + b"2\x86" * 80 + b"Ns.",
    "memo of 32 GiB": b"\x80\x04]r\xff\xff\xff\xff.",
    "bytes of 4 EiB": b"\x80\x04\x96" + b"\xff" * 7 + b"\x3f.",
}


def test_bombs_are_one_sentence(tmp_path: Path) -> None:
    """The C unpickler dies of the nested tuples (its stack overflows) and allocates the memo.

    A process of its own reads them: this one would die with it, or never come back.
    """
    code = (
        "import sys\n"
        "from common.data.benchmarks.pickles import load_graph\n"
        "from common.errors import UserError\n"
        "for path in sys.argv[1:]:\n"
        "    print(path, flush=True)\n"
        "    try: load_graph(path)\n"
        "    except UserError as error: print(error)\n"
    )
    paths = [str(raw(tmp_path / f"{name}.pkl", bomb)) for name, bomb in BOMBS.items()]
    command = [sys.executable, "-c", code, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    for path, refusal in zip(paths, done.stdout.splitlines()[1::2], strict=True):
        assert refusal.startswith(path)


def test_a_container_that_holds_itself_is_refused(tmp_path: Path) -> None:
    itself: dict[str, Any] = {}
    itself["P1"] = itself
    path = dump(tmp_path / "loop.pkl", itself)
    for load in (load_graph, load_node_sets, load_go_terms):
        with pytest.raises(UserError, match="check the path"):
            load(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_cut_anywhere_is_refused(
    tmp_path: Path, triangle: nx.Graph, protocol: int
) -> None:
    whole = pickle.dumps(triangle.subgraph("abc"), protocol)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"cut\.pkl"):
            load_graph(raw(tmp_path / "cut.pkl", whole[:length]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is incomplete, or contains something other"),
        (b"P1\tP2\t1\n", "is incomplete, or contains something other"),
        (pickle.dumps({"a": 1}), "contains a dict, not a networkx graph"),
        (pickle.dumps([]), "contains an empty list, not a networkx graph"),
        (pickle.dumps(nx.DiGraph([("a", "b")])), r"contains networkx\.classes\.digraph\.DiGraph"),
        (pickle.dumps(nx.path_graph(3)), "not contain an undirected networkx graph of protein ids"),
        (pickle.dumps(nx.Graph), "contains a type, not a networkx graph"),
        (pickle.dumps(nx.path_graph(3).nodes), "contains a networkx Ignored, not a networkx graph"),
    ],
)
def test_what_is_not_a_graph_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_graph(raw(tmp_path / "x.pkl", content))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.pkl"):
        load_graph(tmp_path / "absent.pkl")


@pytest.mark.parametrize(
    "tampering", ["one-way edge", "unknown neighbour", "a number as neighbour", "no row", "no dict"]
)
def test_inconsistent_graphs_are_refused(
    tmp_path: Path, triangle: nx.Graph, tampering: str
) -> None:
    if tampering == "one-way edge":
        del triangle._adj["a"]["b"]
    elif tampering in ("unknown neighbour", "a number as neighbour"):
        triangle._adj["a"]["z" if tampering[0] == "u" else 5] = {}
    elif tampering == "no row":
        triangle._node["z"] = {}
    else:
        triangle._adj["a"] = ["b"]
    with pytest.raises(UserError, match="undirected networkx graph"):
        load_graph(dump(tmp_path / "g.pkl", triangle))


def no_loops(a: str, b: str) -> bool:
    return a != b


def test_a_filter_of_its_own_is_refused_not_taken_for_none(
    tmp_path: Path, triangle: nx.Graph
) -> None:
    view = nx.subgraph_view(triangle, filter_edge=no_loops)
    with pytest.raises(UserError, match=rf"contains {__name__}\.no_loops,"):
        load_graph(dump(tmp_path / "g.pkl", view))


def test_a_view_that_filters_edges_is_refused(tmp_path: Path, triangle: nx.Graph) -> None:
    """Its filter was another admitted record, and all edges were read."""
    view = triangle.subgraph("abc")
    content = pickle.dumps(view)
    assert load_graph(raw(tmp_path / "g.pkl", content)).number_of_edges() == 4
    view._adj.EDGE_OK = nx.filters.show_nodes("a")
    with pytest.raises(UserError, match="undirected networkx graph"):
        load_graph(dump(tmp_path / "g.pkl", view))


def test_uniprot_names_mean_their_accessions(tmp_path: Path) -> None:
    name = "sp|P1|X"
    graph = nx.Graph([(name, "P2"), (name, name)])
    read = load_graph(dump(tmp_path / "g.pkl", graph))
    assert (sorted(read), sorted(read.edges)) == (["P1", "P2"], [("P1", "P1"), ("P1", "P2")])
    (sets,) = load_node_sets(dump(tmp_path / "n.pkl", {2: [{name, "P2"}]})).values()
    assert sets == [{"P1", "P2"}]
    assert load_go_terms(dump(tmp_path / "t.pkl", {name: {"go_p": ["a"]}})) == {
        "P1": {"go_p": ["a"]}
    }
    graph.add_edge("P1", "P2")
    with pytest.raises(UserError, match="undirected networkx graph"):
        load_graph(dump(tmp_path / "g.pkl", graph))


def test_node_sets_come_by_ascending_size_in_file_order(tmp_path: Path) -> None:
    content = {3: [{"a", "b", "c"}], 2: [{"c", "d"}, frozenset({"a", "b"}), ["b", "c"]]}
    read = load_node_sets(dump(tmp_path / "n.pkl", content))
    assert list(read) == [2, 3]
    assert read[2] == [frozenset("cd"), frozenset("ab"), frozenset("bc")]


@pytest.mark.parametrize(
    "content",
    [{}, [{"a"}], {"2": [{"a", "b"}]}, {True: [{"a"}]}, {2: {"a", "b"}}, {2: ["ab"]},
     {2: [{1, 2}]}, {2: [set()]}, {2: [{""}]}, {2: [{None}]}],
)  # fmt: skip
def test_what_is_not_node_sets_is_said(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match=r"n\.pkl contains .*, not "):
        load_node_sets(dump(tmp_path / "n.pkl", content))


@pytest.mark.parametrize(
    "content",
    [{}, [], {1: {}}, {"P1": []}, {"P1": {"go_p": "GO:1"}}, {"P1": {"go_p": [1]}}, {"P1": {1: []}}],
)
def test_what_is_not_go_terms_is_said(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match=r"go\.pkl contains .*, not "):
        load_go_terms(dump(tmp_path / "go.pkl", content))


def test_a_list_of_graphs_must_hold_graphs_alone(tmp_path: Path, triangle: nx.Graph) -> None:
    assert len(load_graphs(dump(tmp_path / "c.pkl", [triangle, triangle.subgraph("ab")]))) == 2
    for content in ([triangle, "a"], [], triangle):
        with pytest.raises(UserError, match=r"c\.pkl contains .*, not "):
            load_graphs(dump(tmp_path / "c.pkl", content))
