"""Bad pickles: graphs, node sets and GO terms come out as they went in, or nothing comes out.

Cases: 2,400, each a stream given to one of the four readers (`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.benchmarks.pickles import load_go_terms, load_graph, load_graphs, load_node_sets
from tests.bad_input import Refused, assert_tried, attempt, cases, flip_bit

IDS = ["P1", "P2", "Q9-2", "β", "a|b", "0"]
ODD_IDS = ["", "a\nb", "\ud800", "\u200b", "a\0"]

Loader = Callable[[Path], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pickles")


def load(folder: Path, content: bytes, loader: Loader) -> Any:
    """Attempt to load a stream; graphs come as their sorted nodes and edges."""
    path = folder / "x.pkl"
    path.write_bytes(content)
    return attempt("pickles", lambda: plain(loader(path)), path)


def plain(content: Any) -> Any:
    """Graphs as (nodes, edges, attributes); all else as it is."""
    if isinstance(content, list):
        return [plain(part) for part in content]
    if not isinstance(content, nx.Graph):
        return content
    edges = {frozenset(edge) for edge in content.edges}
    attributes = [
        content.graph,
        *dict(content.nodes).values(),
        *(d for *_, d in content.edges.data()),
    ]
    return set(content), edges, any(attributes)


# What is a graph, a node set, a GO annotation


ids = st.sampled_from(IDS)


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    """A graph with self-loops and isolated nodes, or a frozen or filtered view of one."""
    graph = nx.Graph()
    graph.add_nodes_from(draw(st.lists(ids, max_size=6)))
    graph.add_edges_from(draw(st.lists(st.tuples(ids, ids), max_size=10)))
    kind = draw(st.integers(0, 3))
    if kind == 1:
        return nx.freeze(graph)
    shown = draw(st.lists(ids, max_size=5))
    return [graph, graph, graph.subgraph(shown), graph.subgraph(IDS).subgraph(shown)][kind]


node_sets = st.dictionaries(
    st.integers(1, 400),
    st.lists(st.one_of(st.sets(ids, min_size=1), st.frozensets(ids, min_size=1)), max_size=3),
    min_size=1,
    max_size=3,
)
go_terms = st.dictionaries(
    ids,
    st.dictionaries(st.sampled_from(["go_p", "go_f"]), st.lists(st.just("GO:1"), max_size=3)),
    min_size=1,
)


@cases(80)
@given(graphs(), node_sets, go_terms, st.integers(2, 5))
def test_what_was_written_is_read_in_any_protocol(
    folder: Path, graph: nx.Graph, sets: Any, terms: Any, protocol: int
) -> None:
    def dumped(content: object) -> bytes:
        return pickle.dumps(content, protocol)

    expected = (*plain(graph)[:2], False)
    assert load(folder, dumped(graph), load_graph) == expected
    assert load(folder, dumped([graph, graph]), load_graphs) == [expected, expected]
    assert load(folder, dumped(sets), load_node_sets) == sets
    assert load(folder, dumped(terms), load_go_terms) == terms


# What is none of them

plain_values = st.recursive(
    st.one_of(
        st.sampled_from([*IDS, *ODD_IDS, "GO:1", "go_p"]),
        st.sampled_from([None, True, 0, 1, 2, -1, 0.5, 2**40, b"P1", 1j, ..., nx.Graph]),
        graphs(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.sampled_from([1, 2, 20, *IDS, *ODD_IDS, "go_p", None]), inner, max_size=3
        ),
        st.sets(st.sampled_from([*IDS, *ODD_IDS, 1, None]), max_size=3),
    ),
    max_leaves=8,
)


def is_id(value: object) -> bool:
    return isinstance(value, str) and value in [*IDS, "GO:1", "go_p"]


def are_node_sets(value: Any) -> bool:
    return (
        type(value) is dict
        and value != {}
        and all(type(size) is int and size in range(1, 2**31) for size in value)
        and all(type(sets) is list for sets in value.values())
        and all(
            type(nodes) in (set, frozenset, list) and len(nodes) and all(map(is_id, nodes))
            for sets in value.values()
            for nodes in sets
        )
    )


def are_go_terms(value: Any) -> bool:
    return (
        type(value) is dict
        and value != {}
        and all(map(is_id, value))
        and all(type(part) is dict and all(map(is_id, part)) for part in value.values())
        and all(
            type(terms) is list and all(map(is_id, terms))
            for part in value.values()
            for terms in part.values()
        )
    )


@cases(150)
@given(plain_values, st.integers(2, 5))
def test_a_container_of_anything_else_is_refused(folder: Path, value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    read = load(folder, content, load_node_sets)
    assert isinstance(read, Refused) != are_node_sets(value)
    assert isinstance(load(folder, content, load_go_terms), Refused) != are_go_terms(value)
    assert isinstance(load(folder, content, load_graph), Refused) != isinstance(value, nx.Graph)
    are_graphs = type(value) is list and value != [] and all(isinstance(g, nx.Graph) for g in value)
    assert isinstance(load(folder, content, load_graphs), Refused) != are_graphs


@cases(150)
@given(st.one_of(graphs(), node_sets, go_terms), st.integers(2, 5), st.data())
def test_a_damaged_pickle_is_refused_or_still_one_of_them(
    folder: Path, value: Any, protocol: int, data: st.DataObject
) -> None:
    content = pickle.dumps(value, protocol)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(1, 3)) if content else 0):
        content = flip_bit(content, data.draw(st.integers(0, 8 * len(content) - 1)))
    assert_consistent(folder, content)


def assert_consistent(folder: Path, content: bytes) -> None:
    """Whatever comes out has the one form that callers rely on."""
    for loader in (load_graph, load_graphs, load_node_sets, load_go_terms):
        read = load(folder, content, loader)
        if isinstance(read, Refused):
            continue
        if loader in (load_graph, load_graphs):
            for nodes, edges, attributes in [read] if loader is load_graph else read:
                assert all(isinstance(node, str) and node.isprintable() for node in nodes)
                assert all(edge <= nodes for edge in edges)
                assert not attributes
        elif loader is load_node_sets:
            assert all(isinstance(node, str) for sets in read.values() for s in sets for node in s)
        else:
            assert all(type(terms) is list for part in read.values() for terms in part.values())


# Programs

OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
PHRASES = [
    b"cnetworkx.classes.graph\nGraph\n", b"cbuiltins\nset\n", b"c__builtin__\nfrozenset\n",
    b"cnetworkx.classes.coreviews\nFilterAtlas\n", b"cnetworkx.classes.filters\nshow_nodes\n",
    b"cos\nsystem\n", b"ios\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"\x8c\x05_node", b"(",
    b"}", b"]", b")", b"\x8f", b"N", b"\x88", b"X\x02\0\0\0P1", b"K\x02", b"I12\n", b"Va\\ud800\n",
    b"F1\n", b"h\0", b"q\0", b"\x94", b"j\0\0\0\0", b"r\xff\xff\xff\x7f", b"M\0\1", b"L5L\n",
    b"\x8a\x01\x05", b"\x95\5\0\0\0\0\0\0\0", b"\x96" + b"\0" * 4 + b"\1\0\0\0", b"\x82\1", b"P1\n",
    b"S'a'\n", b".",
]  # fmt: skip


@cases(150)
@given(st.lists(st.sampled_from(OPCODES + 3 * PHRASES), max_size=30), st.integers(0, 5))
def test_no_program_does_more_than_build_containers(
    folder: Path, program: list[bytes], protocol: int
) -> None:
    assert_consistent(folder, b"\x80" + bytes([protocol]) + b"".join(program) + b".")


class Malicious:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@cases(60)
@given(
    st.sampled_from(
        [os.system, os.mkdir, eval, exec, getattr, __import__, open, nx.write_gml, dict]
    ),
    st.integers(0, 5),
    st.integers(0, 4),
)
def test_a_call_is_refused_wherever_it_hides(
    folder: Path, function: Any, protocol: int, place: int
) -> None:
    marker = folder / "marker"
    call = Malicious(function, f"touch {marker}")
    graph = nx.Graph([("a", "b")], x=call)
    content = [call, {1: [{"a"}, call]}, {"P1": {"go_p": [call]}}, [graph], graph][place]
    for loader in (load_graph, load_graphs, load_node_sets, load_go_terms):
        assert isinstance(load(folder, pickle.dumps(content, protocol), loader), Refused)
    assert not marker.exists()


# Stories


def test_a_file_takes_no_more_memory_than_a_few_times_its_size(folder: Path) -> None:
    """Twelve bytes asked for a bytearray of 1 GiB, and got it before anything was read."""
    tracemalloc.start()
    try:
        refused = load(folder, b"\x80\x05\x96" + (1 << 30).to_bytes(8, "little") + b".", load_graph)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert "something other than graphs" in refused.sentence


def test_one_list_cannot_be_made_into_sets_without_end(folder: Path) -> None:
    """Of 66 kB, a list named in 300 calls of `set` took 620 MB."""
    names = b"".join(b"X" + len(n).to_bytes(4, "little") + n for n in _numbered(5000))
    items = b"(" + names + b"l" + b"q\x01" + b"0"
    sets = b"(" + b"c__builtin__\nset\nh\x01\x85R" * 300 + b"l"
    tracemalloc.start()
    try:
        refused = load(folder, b"\x80\x02" + items + sets + b".", load_graphs)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert "something other than graphs" in refused.sentence
    # As protocol 2 writes what the benchmark has: each set of entries of its own.
    sets_of_names = {2: [{"P1", "P2"}, {"P3", "P1"}]}
    assert load(folder, pickle.dumps(sets_of_names, 2), load_node_sets) == sets_of_names


def _numbered(count: int) -> list[bytes]:
    return [f"P{number:05d}".encode() for number in range(count)]


def test_the_names_that_a_file_asks_for_cannot_break_the_sentence(folder: Path) -> None:
    r"""A module named "os\nall is well" made two lines of the refusal, half a surrogate none."""
    for name in ("os\nall is well", "\ud800", "x" * 10_000, "\x1b[31m"):
        encoded = name.encode("utf-8", "surrogatepass")
        text = b"X" + len(encoded).to_bytes(4, "little") + encoded
        for stream in (text + b"\x8c\x01a\x93", b"c" + encoded.replace(b"\n", b" ") + b"\na\n"):
            assert isinstance(load(folder, b"\x80\x04" + stream + b".", load_graph), Refused)


def test_a_protein_whose_id_has_a_space_is_refused_but_not_a_term(folder: Path) -> None:
    """No file of pairs can name it; the predictions that did could not be read back."""
    contents: list[tuple[Any, Loader]] = [
        (nx.Graph([("P1", "a b")]), load_graph),
        ({2: [{"P1", "a b"}]}, load_node_sets),
        ({"a b": {"go_p": []}}, load_go_terms),
    ]
    for content, loader in contents:
        assert "; check the path" in load(folder, pickle.dumps(content), loader).sentence
    terms = {"P1": {"go p": ["heme binding"]}}
    assert load(folder, pickle.dumps(terms), load_go_terms) == terms


@pytest.mark.parametrize("odd", ODD_IDS)
def test_ids_that_cannot_be_printed_are_refused(folder: Path, odd: str) -> None:
    """An id with half a surrogate was read and ended in a UnicodeEncodeError in the CSV."""
    contents: list[tuple[Any, Loader]] = [
        (nx.Graph([("P1", odd)]), load_graph),
        ({2: [{"P1", odd}]}, load_node_sets),
        ({10**5000: [{"P1"}]}, load_node_sets),
        ({odd: {"go_p": []}}, load_go_terms),
        ({"P1": {"go_p": [odd]}}, load_go_terms),
    ]
    for content, loader in contents:
        assert "; check the path" in load(folder, pickle.dumps(content), loader).sentence


def test_one_container_in_many_places_is_not_walked_through_for_ever(folder: Path) -> None:
    """Fifty kilobytes of node sets stood for 10 ** 8 ids, as many of GO terms for 10 ** 12."""
    many = [f"P{number}" for number in range(3000)]
    row: dict[str, Any] = {name: {} for name in many}
    graph = nx.Graph()
    graph._node.update(row)
    graph._adj.update(dict.fromkeys(many, row))
    contents: list[tuple[Any, Loader]] = [
        ({2: [set(many)] * 3000}, load_node_sets),
        (dict(enumerate([[set(many)] * 3000] * 3000, 1)), load_node_sets),
        (dict.fromkeys(many, dict.fromkeys(many, many)), load_go_terms),
        (graph, load_graph),
        ([nx.path_graph(many)] * 3000, load_graphs),
    ]
    for content, loader in contents:
        assert "refers to the same data" in load(folder, pickle.dumps(content), loader).sentence


def test_the_registry_of_extensions_is_not_asked(folder: Path) -> None:
    """What another library had registered and used came out of the cache without a check."""
    copyreg.add_extension(os.system.__module__, "system", 240)
    try:
        stream = pickle.dumps(Malicious(os.system, f"touch {folder / 'marker'}"), 2)
        assert b"\x82\xf0" in stream
        copyreg._extension_cache[240] = os.system  # type: ignore[attr-defined]
        assert isinstance(load(folder, stream, load_graph), Refused)
    finally:
        copyreg.remove_extension(os.system.__module__, "system", 240)
        copyreg.clear_extension_cache()
    assert not (folder / "marker").exists()


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(request, {"pickles": 2400})
