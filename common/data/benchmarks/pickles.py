"""Reads graphs and node sets from pickle files safely, without running code from the files.

A pickle file can name any Python function to be run. This reader accepts only an explicit list of
names, which networkx graphs and frozen subgraph views consist of. An object with such a name is
read as a record of its attributes without any behaviour, and the graph is rebuilt from the checked
records. Any other name is refused before it is imported. UniProt names (`sp|P12345|NAME`) are read
as accessions.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, NoReturn

import networkx as nx

from common.data.tables.ids import shorten_uniprot
from common.errors import UserError, excerpt


class _Record:
    """The attributes of one pickled object, without the behaviour of its class."""

    attributes: dict[str, Any]

    def __new__(cls, *_arguments: object, **_keywords: object) -> _Record:
        record = super().__new__(cls)
        record.attributes = {}
        return record

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a state that is not a dict")
        self.attributes = state


class _Graph(_Record):
    pass


class _FilteredView(_Record):
    pass


class _ShowNodes(_Record):
    pass


class _NoFilter(_Record):
    pass


class _Ignored(_Record):
    """A pickled object that is not needed, because networkx can compute it again."""


class _Set(_Record):
    """A set as pickle protocols 2 and 3 store it: a call of `set` with a list."""


_COREVIEWS, _FILTERS = "networkx.classes.coreviews", "networkx.classes.filters"
_ADMITTED: dict[tuple[str, str], type[_Record]] = {
    ("networkx.classes.graph", "Graph"): _Graph,
    (_COREVIEWS, "FilterAtlas"): _FilteredView,
    (_COREVIEWS, "FilterAdjacency"): _FilteredView,
    (_COREVIEWS, "AtlasView"): _Ignored,
    (_COREVIEWS, "AdjacencyView"): _Ignored,
    (_FILTERS, "show_nodes"): _ShowNodes,
    (_FILTERS, "no_filter"): _NoFilter,
    ("networkx.classes.function", "frozen"): _Ignored,
} | {
    ("networkx.classes.reportviews", f"{view}View"): _Ignored
    for view in ("Node", "NodeData", "Edge", "EdgeData", "Degree")
}
_ADMITTED |= {
    (module, name): _Set for module in ("builtins", "__builtin__") for name in ("set", "frozenset")
}

_LARGEST_SIZE = 2**31

_PLAIN_KEYS = frozenset({str, int, float, bool, bytes, type(None)})

# All exceptions that the unpickler can raise for a damaged or malicious file.
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def _plain_keys(keys: list[Any]) -> list[Any]:
    for key in keys:
        if type(key) not in _PLAIN_KEYS and not isinstance(key, _Record):
            raise pickle.UnpicklingError("a key that is neither a string nor a number")
    return keys


# The opcodes that hash objects on the stack, and the positions of these keys in the stack.
_HASHING_OPCODES: dict[bytes, slice] = {
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None),
    pickle.FROZENSET: slice(None),
}


def _guarded(opcode: bytes, keys: slice) -> Callable[[Any], None]:
    execute = pickle._Unpickler.dispatch[opcode[0]]

    def check_and_execute(reader: Any) -> None:
        _plain_keys(reader.stack[keys])
        execute(reader)

    return check_and_execute


class _Reader(pickle._Unpickler):
    """Unpickles plain containers and records of admitted names; keys must be text or numbers.

    This is Python's pure-Python unpickler, because the C unpickler (in Python 3.11 as well) hashes
    any key, so that nested tuples overflow its stack and kill the process, and grows its memo to
    any size that the file demands. Scanning the opcodes first with `pickletools` cannot detect
    which tuples become keys, and takes about half the time of this class (0.06 s and 0.11 s for the
    human BFS test graph).
    """

    dispatch = pickle._Unpickler.dispatch | {
        opcode[0]: _guarded(opcode, keys) for opcode, keys in _HASHING_OPCODES.items()
    }
    # BYTEARRAY8 allocates any amount of memory that the file demands, and the EXT opcodes take
    # objects from a registry of the process; graphs need none of these opcodes.
    for _opcode in (pickle.BYTEARRAY8, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[_opcode[0]]

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content))
        self._path = path
        self._left = len(content)

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise UserError(
                f"{self._path} contains {excerpt(f'{module}.{name}', limit=120)}, which no networkx"
                " graph needs, so loading the file could run code; download the file again from a"
                " source that you trust"
            )
        return self._make_set if admitted is _Set else admitted

    def _make_set(self, items: Sequence[Any] = ()) -> set[Any]:
        """Create a set within a limit, because a small file could copy one list into many sets."""
        self._left -= len(items)
        if self._left < 0:
            raise pickle.UnpicklingError("sets with more entries than the file can hold")
        return set(_plain_keys(list(items)))


class _Content:
    """The content of a pickle file, with a limit on the number of its entries.

    A pickle can refer to one container in many places, so that a few kilobytes can expand to
    billions of entries. An entry that a file really contains takes at least one byte, so the size
    of the file limits the number of entries.
    """

    def __init__(self, value: Any, size: int, path: Path) -> None:
        self.value = value
        self.path = path
        self._left = size

    def count(self, entries: Sized) -> None:
        self._left -= len(entries)
        if self._left < 0:
            raise UserError(
                f"{self.path} refers to the same data so often that it would expand beyond its own"
                " size, so it is not a file of the benchmark; download the file again"
            )


def load_graph(path: str | Path) -> nx.Graph:
    """Read a pickled undirected networkx graph or frozen subgraph view, without running its code.

    Returns:
        A plain graph of protein ids, with edges and self-loops but without attributes.

    Raises:
        UserError: The file cannot be read, contains a name that no graph needs, or contains
            something other than a graph whose nodes are strings.
    """
    content = _load(Path(path))
    return _to_graph(content.value, content)


def load_graphs(path: str | Path) -> list[nx.Graph]:
    """Read a pickled list of graphs (the benchmark's complexes) as safely as `load_graph`."""
    content = _load(Path(path))
    graphs = content.value
    if not isinstance(graphs, list) or not graphs:
        _refuse(graphs, content.path, "a list of networkx graphs")
    return [_to_graph(graph, content) for graph in graphs]


def load_node_sets(path: str | Path) -> dict[int, list[frozenset[str]]]:
    """Read the benchmark's sampled node sets from a pickle file.

    Returns:
        The sets of each size: sizes in ascending order, sets in the order of the file.

    Raises:
        UserError: As for `load_graph`, or the file does not contain a dict of sizes to lists of
            id sets.
    """
    content = _load(Path(path))
    sizes = content.value
    if not isinstance(sizes, dict) or not sizes:
        _refuse(sizes, content.path, "a dict of sizes to lists of node sets")
    if not all(_is_size(size) and isinstance(sets, list) for size, sets in sizes.items()):
        _refuse(sizes, content.path, "a dict of sizes to lists of node sets")
    for sets in sizes.values():
        content.count(sets)
    return {size: [_to_ids(nodes, content) for nodes in sizes[size]] for size in sorted(sizes)}


def load_go_terms(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """Read the GO terms of every protein, by aspect (`go_p`, `go_f`, `go_c`), from a pickle file.

    Raises:
        UserError: As for `load_graph`, or the file does not contain such a dict.
    """
    content = _load(Path(path))
    proteins, path = content.value, content.path
    if not isinstance(proteins, dict) or not proteins or not all(map(_is_id, proteins)):
        _refuse(proteins, path, "a dict of proteins to their GO terms")
    for aspects in proteins.values():
        if not isinstance(aspects, dict) or not all(map(_is_text, aspects)):
            _refuse(aspects, path, "a dict of GO aspects for every protein")
        content.count(aspects)
        for terms in aspects.values():
            if not isinstance(terms, list) or not all(map(_is_text, terms)):
                _refuse(terms, path, "a list of GO terms for every aspect")
            content.count(terms)
    return {shorten_uniprot(protein): aspects for protein, aspects in proteins.items()}


def _load(path: Path) -> _Content:
    try:
        stream = path.read_bytes()
        return _Content(_Reader(stream, path).load(), len(stream), path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except _UNREADABLE:
        raise UserError(
            f"{path} is incomplete, or contains something other than graphs, lists, sets and"
            " dictionaries; download the file again"
        ) from None


def _to_graph(record: object, content: _Content) -> nx.Graph:
    path = content.path
    if not isinstance(record, _Graph):
        _refuse(record, path, "a networkx graph")
    nodes = _shown(record.attributes.get("_node"), content)
    rows = _shown(record.attributes.get("_adj"), content)
    if nodes is None or rows is None or nodes.keys() != rows.keys() or not all(map(_is_id, nodes)):
        _refuse_structure(path)
    for row in rows.values():
        if not isinstance(row, dict):
            _refuse_structure(path)
        content.count(row)
    # The rows of a view still contain the neighbours that the view hides.
    is_view = isinstance(record.attributes["_adj"], _FilteredView)
    ends = [(a, b) for a, row in rows.items() for b in row if not is_view or b in rows]
    if not all(b in rows for _, b in ends):
        _refuse_structure(path)
    return _build(list(nodes), ends, path)


def _shown(mapping: object, content: _Content) -> dict[Any, Any] | None:
    """Return the entries of a dict or of a filtered view, or None for any other object."""
    if isinstance(mapping, dict):
        content.count(mapping)
        return mapping
    if not isinstance(mapping, _FilteredView):
        return None
    entries, shown = mapping.attributes.get("_atlas"), mapping.attributes.get("NODE_OK")
    keeps_edges = mapping.attributes.get("EDGE_OK", _NoFilter) is _NoFilter
    if not isinstance(entries, dict) or not isinstance(shown, _ShowNodes) or not keeps_edges:
        return None
    names = shown.attributes.get("nodes")
    if not isinstance(names, set):
        return None
    content.count(entries)
    return {key: value for key, value in entries.items() if key in names}


def _build(nodes: list[str], ends: list[tuple[str, Any]], path: Path) -> nx.Graph:
    """Build a graph from edges that are listed in both directions, as networkx stores edges."""
    graph = nx.Graph()
    graph.add_nodes_from(map(shorten_uniprot, nodes))
    graph.add_edges_from((shorten_uniprot(a), shorten_uniprot(b)) for a, b in ends)
    directions = 2 * graph.number_of_edges() - nx.number_of_selfloops(graph)
    if len(graph) != len(nodes) or directions != len(ends):
        _refuse_structure(path)
    return graph


def _to_ids(nodes: object, content: _Content) -> frozenset[str]:
    if not isinstance(nodes, set | frozenset | list) or not nodes or not all(map(_is_id, nodes)):
        _refuse(nodes, content.path, "sets of protein ids")
    content.count(nodes)
    return frozenset(map(shorten_uniprot, nodes))


def _is_text(value: object) -> bool:
    """Return whether a value is a non-empty printable string."""
    return type(value) is str and value != "" and value.isprintable()


def _is_id(value: object) -> bool:
    """Return whether a value can be a protein id: a printable string without white space."""
    return type(value) is str and value.isprintable() and len(value.split()) == 1


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value < _LARGEST_SIZE


def _refuse(content: object, path: Path, wanted: str) -> NoReturn:
    if isinstance(content, _Record):
        found = f"a networkx {type(content).__name__.strip('_')}"
    else:
        found = f"{'an empty' if content in ([], {}, set()) else 'a'} {type(content).__name__}"
    raise UserError(f"{path} contains {found}, not {wanted}; check the path")


def _refuse_structure(path: Path) -> NoReturn:
    raise UserError(
        f"{path} does not contain an undirected networkx graph of protein ids; check the path"
    )
