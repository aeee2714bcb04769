"""Prepares a benchmark in PRING's nested layout from the user's interactions and sequences.

    <root>/README.md, preparation.json                      the input files and the settings
    <root>/proteins_without_sequence.txt                    the ids of such proteins, if any
    <root>/<species>/<species>_simple.fasta                 the sequences of the proteins
    <root>/<species>/<STRATEGY>/<species>_{train,val,test}_ppi.txt, <species>_test_graph.pkl,
        test_sampled_nodes.pkl, <species>_train_graph.pkl   a split for each strategy

Proteins, not pairs, are divided into train, val and test; pairs of proteins from different splits
are dropped and counted. The same input, settings and seed give byte-identical files.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt

from common.config_data import STRATEGIES, InteractionsConfig, Strategy
from common.data.benchmarks.pring import FileKind, file_names
from common.data.negatives import Negatives, encode_pairs
from common.data.similarity import find_similar
from common.data.splitting import draw_node_sets, draw_sides, neighbours_of
from common.data.tables.fasta import read_fasta
from common.data.tables.interactions.base import (
    Interactions,
    ReadOptions,
    format_counts,
)
from common.data.tables.interactions.reading import read_interactions
from common.data.tables.meeting_ids import known_ids, meet, read_id_map, read_organisms
from common.data.turns import hold, in_turn, is_held_elsewhere
from common.errors import UserError
from common.files import hash_file, new_directory
from common.run import LOGGER, format_event

Numbers = npt.NDArray[np.int64]

# Increase this number when a change of the code makes another benchmark from the same input.
VERSION = 1
MARKER = "preparation.json"
PARTS: tuple[FileKind, ...] = ("train", "val", "test")
# The sizes and the number of PRING's node sets.
SET_SIZES = tuple(range(20, 201, 20))
SETS_PER_SIZE = 50


@dataclass(frozen=True, eq=False)
class Part:
    """The labelled pairs of train, val or test: protein numbers (N, 2) and labels (N,)."""

    pairs: Numbers
    labels: npt.NDArray[np.int8]

    def count(self) -> dict[str, int]:
        """Return how many proteins, positive pairs and negative pairs the split has."""
        positives = int(self.labels.sum())
        negatives = len(self.labels) - positives
        proteins = len(np.unique(self.pairs))
        return {"proteins": proteins, "positives": positives, "negatives": negatives}


@dataclass(frozen=True)
class Material:
    """The interactions and sequences that a benchmark is prepared from.

    Attributes:
        tables: All interactions under the key `files`, or the interactions of each given split.
        sequences: The sequences of the interacting proteins, by sorted id.
        missing: The proteins that have no sequence.
    """

    tables: Mapping[str, Interactions]
    sequences: Mapping[str, str]
    missing: tuple[str, ...]

    def numbers(self, table: Interactions, pairs: Numbers) -> Numbers:
        """Return the pairs of a table as indices (N, 2) of proteins in `sequences`."""
        places = {name: number for number, name in enumerate(self.sequences)}
        found: Numbers = np.array([places[name] for name in table.ids], np.int64)[pairs]
        return found.reshape(-1, 2)


def ensure_prepared(root: Path, species: str, settings: InteractionsConfig, seed: int) -> None:
    """Prepare the benchmark under `root`, unless it exists with the same input and settings.

    Args:
        root: The benchmark's directory, which is never left half-written.
        species: The name of the species, for folders and files.
        settings: The input files, and how the proteins are divided.
        seed: The seed of all random draws.

    Raises:
        UserError: The input cannot be read or is too small, `root` contains other files, or
            another process uses a benchmark of other settings there.
    """
    identity = {"version": VERSION, "species": species, "seed": seed} | _describe_input(settings)
    identity = json.loads(json.dumps(identity))
    if not _is_prepared(root, identity):
        with in_turn(root):
            if not _is_prepared(root, identity):  # by the process that held the lock before
                _refuse_if_used(root)
                _prepare(root, species, settings, seed, identity)
    hold(root / MARKER)


def _prepare(
    root: Path, species: str, settings: InteractionsConfig, seed: int, identity: dict[str, Any]
) -> None:
    material = read_material(settings)
    groups, method = _find_groups(material, settings)
    with new_directory(root) as directory:
        writer = _Writer(directory / species, tuple(material.sequences))
        writer.write_sequences(material.sequences)
        splits: dict[str, dict[str, Any]] = {}
        for place, strategy in enumerate(STRATEGIES):
            rng = np.random.default_rng([seed, place])
            parts, dropped = _divide(material, groups, settings, strategy, rng)
            _write_split(writer, strategy, parts, rng)
            splits[strategy] = {str(kind): part.count() for kind, part in parts.items()}
            splits[strategy]["dropped"] = dropped
        counts = {name: table.record() for name, table in material.tables.items()}
        record = identity | {"similarity": method, "counts": counts, "splits": splits}
        _write_text(directory / MARKER, json.dumps(record, indent=2) + "\n")
        _write_text(directory / "README.md", _describe(record, material))
        if material.missing:
            names = "".join(f"{name}\n" for name in material.missing)
            _write_text(directory / "proteins_without_sequence.txt", names)
    across = {f"{name}_dropped_across_sides": each["dropped"] for name, each in splits.items()}
    LOGGER.info(format_event("interactions_prepared", directory=root, seed=seed, **across))


def _refuse_if_used(root: Path) -> None:
    if is_held_elsewhere(root / MARKER):
        raise UserError(
            f"data_config.benchmark.root_dir ({root}) contains a benchmark that was prepared from"
            " other input or settings and is in use by another process; choose another directory,"
            " or wait until that process has ended"
        )


def _is_prepared(root: Path, identity: Mapping[str, Any]) -> bool:
    found = _read_marker(root)
    return found is not None and {key: found.get(key) for key in identity} == identity


def _read_marker(root: Path) -> dict[str, Any] | None:
    """Return the record of a prepared benchmark, or None if the directory is missing or empty."""
    try:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return None
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
        if isinstance(marker, dict) and "version" in marker:
            return marker
    except (OSError, ValueError):
        pass  # reported below
    raise UserError(
        f"data_config.benchmark.root_dir ({root}) contains files that were not prepared from"
        " interactions and are not overwritten; set root_dir to a directory that does not exist yet"
    )


def _describe_input(settings: InteractionsConfig) -> dict[str, Any]:
    given = {name: path for name, path in settings.splits.model_dump().items() if path}
    paths = [*settings.files, *given.values(), settings.sequences, settings.id_map]
    files = {}
    for path in filter(None, paths):
        if not Path(path).is_file():
            raise UserError(
                f"data_config.interactions names {path}, which is not a file; correct the path, or"
                " set data_config.benchmark.name: pring to use an already prepared benchmark"
            )
        files[path] = hash_file(Path(path))
    return {"settings": settings.model_dump(mode="json"), "files": files}


def read_material(settings: InteractionsConfig) -> Material:
    """Read interactions, sequences and id map; name all proteins as in the sequence file.

    Raises:
        UserError: A file cannot be read, or no usable interaction is left.
    """
    assert settings.sequences is not None  # checked by the configuration
    sequences = read_fasta(settings.sequences)
    id_map = read_id_map(settings.id_map) if settings.id_map else {}
    organisms = read_organisms(settings.sequences) if settings.taxid else {}
    known = known_ids(sequences, id_map)
    options = ReadOptions(settings.min_score, settings.taxid, known, organisms)
    given: dict[str, tuple[str, ...]] = {
        name: (path,) for name, path in settings.splits.model_dump().items() if path
    }
    tables, missing = {}, dict[str, None]()
    for name, files in given.items() or [("files", settings.files)]:
        found = read_interactions(files, settings.format, options)
        tables[name], lost = meet(found, sequences, id_map)
        missing |= dict.fromkeys(lost)
        for count in tables[name].all_counts():
            fields = {"such_as": count.examples[:3]} if count.examples else {}
            line = format_event(
                "interactions_read", of=name, step=count.step, count=count.number, **fields
            )
            LOGGER.info(line)
    used = sorted({protein for table in tables.values() for protein in table.ids})
    return Material(tables, {name: sequences[name] for name in used}, tuple(sorted(missing)))


def _find_groups(material: Material, settings: InteractionsConfig) -> tuple[Numbers, str]:
    """Group proteins with similar sequences; return each protein's group and the search method."""
    if settings.max_identity is None or settings.splits.train is not None:
        return np.arange(len(material.sequences)), "none"
    similar = find_similar(material.sequences, settings.max_identity)
    groups = similar.groups()
    LOGGER.info(
        format_event("similar_grouped", method=similar.method, groups=len(np.unique(groups)))
    )
    return groups, similar.method


def _divide(
    material: Material,
    groups: Numbers,
    settings: InteractionsConfig,
    strategy: Strategy,
    rng: np.random.Generator,
) -> tuple[dict[FileKind, Part], int]:
    """Divide the pairs into splits; also count dropped positives, which would join two splits."""
    if "files" not in material.tables:
        tables = {kind: material.tables[kind] for kind in PARTS if kind in material.tables}
        return {
            kind: Part(material.numbers(table, table.pairs), table.labels)
            for kind, table in tables.items()
        }, 0
    table = material.tables["files"]
    pairs = material.numbers(table, table.pairs)
    barred = material.numbers(table, table.contradictions)
    shares = (settings.val_fraction, settings.test_fraction)
    side = draw_sides(pairs[table.labels == 1], groups, shares, strategy, rng)
    parts: dict[FileKind, Part] = {}
    for number, name in enumerate(PARTS):
        within = (side[pairs] == number).all(axis=1)
        part = Part(pairs[within], table.labels[within])
        _require_positives(part, name, settings)
        parts[name] = _add_negatives(part, barred, settings, rng)
    kept = sum(int(part.labels.sum()) for part in parts.values())
    return parts, int(table.labels.sum()) - kept


def _require_positives(part: Part, name: str, settings: InteractionsConfig) -> None:
    if not part.labels.any():
        raise UserError(
            f"the {name} split has no interaction between two of its proteins"
            f" (data_config.interactions.test_fraction is {settings.test_fraction}, val_fraction"
            f" {settings.val_fraction}); provide more interactions, or increase the fractions"
        )


def _add_negatives(
    part: Part, barred: Numbers, settings: InteractionsConfig, rng: np.random.Generator
) -> Part:
    """Add negatives to a split up to the requested number; negatives of the input count as well.

    No negatives are drawn for a protein whose interactions were all dropped, because such a protein
    would occur in negatives only.
    """
    positives = int(part.labels.sum())
    wanted = round(settings.negatives_per_positive * positives) - (len(part.labels) - positives)
    if wanted <= 0:
        return part
    members = np.unique(part.pairs)
    local = np.searchsorted(members, part.pairs)
    barred = barred[np.isin(barred, members).all(axis=1)]
    closed = np.concatenate([local, np.searchsorted(members, barred)])
    known = np.unique(encode_pairs(closed, len(members)))
    pool = Negatives(len(members), local[part.labels == 1], known)
    drawn = pool.draw(wanted, "degree", rng, "data_config.interactions.negatives_per_positive")
    pairs = np.concatenate([part.pairs, np.sort(members[drawn], axis=1)])
    labels = np.concatenate([part.labels, np.zeros(wanted, np.int8)])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return Part(pairs[order], labels[order])


@dataclass(frozen=True)
class _Writer:
    """Writes the benchmark files of a species, replacing protein numbers by their ids."""

    folder: Path
    names: tuple[str, ...]

    def path(self, kind: FileKind, strategy: Strategy = "BFS") -> Path:
        return self.folder / file_names(kind, self.folder.name, strategy, nested=True)[0]

    def write_sequences(self, sequences: Mapping[str, str]) -> None:
        records = (f">{name}\n{sequence}\n" for name, sequence in sequences.items())
        _write_text(self.path("sequences"), "".join(records))

    def write_pairs(self, path: Path, part: Part) -> None:
        rows = zip(part.pairs.tolist(), part.labels.tolist(), strict=True)
        lines = (f"{self.names[a]}\t{self.names[b]}\t{label}\n" for (a, b), label in rows)
        _write_text(path, "".join(lines))

    def write_graph(self, path: Path, parts: Sequence[Part]) -> list[str]:
        """Write the network of all proteins and positive pairs of splits; return its nodes."""
        graph = nx.Graph()
        members = np.unique(np.concatenate([part.pairs for part in parts]))
        graph.add_nodes_from(self.names[number] for number in members)
        for part in parts:
            edges = part.pairs[part.labels == 1].tolist()
            graph.add_edges_from((self.names[a], self.names[b]) for a, b in edges)
        _write_pickle(path, graph)
        return list(graph)


def _write_split(
    writer: _Writer,
    strategy: Strategy,
    parts: Mapping[FileKind, Part],
    rng: np.random.Generator,
) -> None:
    for kind, part in parts.items():
        writer.write_pairs(writer.path(kind, strategy), part)
    seen = [part for kind, part in parts.items() if kind != "test"]
    if seen:
        name = f"{writer.folder.name}_train_graph.pkl"
        writer.write_graph(writer.folder / strategy / name, seen)
    if "test" in parts:
        test = parts["test"]
        nodes = writer.write_graph(writer.path("test_graph", strategy), [test])
        members = np.unique(test.pairs)
        neighbours = neighbours_of(test.pairs[test.labels == 1], members)
        sizes = [size for size in SET_SIZES if size <= len(members)] or [len(members)]
        sets = draw_node_sets(neighbours, sizes, SETS_PER_SIZE, strategy, rng)
        named = {size: [[nodes[p] for p in one] for one in many] for size, many in sets.items()}
        _write_pickle(writer.path("node_sets", strategy), named)


def _write_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _describe(record: Mapping[str, Any], material: Material) -> str:
    """Return the text of the prepared benchmark's README."""
    lines = [
        f"# {record['species']}: a benchmark prepared from interactions",
        "",
        "This benchmark was made automatically from the files below; `preparation.json` contains",
        "the settings, the hashes of the files and all counts. Each protein is in only one of",
        "train, val and test; pairs of proteins from different splits are dropped. Negatives are",
        "pairs that the input does not list, drawn so that each protein occurs about as often in",
        "negatives as in positives.",
        *_describe_similarity(record),
        "",
        "| file | xxh3 |",
        "|---|---|",
        *(f"| {path} | {digest} |" for path, digest in record["files"].items()),
    ]
    for name, table in material.tables.items():
        lines += ["", f"Lines read ({name}):", "", "```", *format_counts(table), "```"]
    lines += ["", "| strategy | part | proteins | positives | negatives |", "|---|---|---|---|---|"]
    for strategy, parts in record["splits"].items():
        counts = {name: part for name, part in parts.items() if name != "dropped"}
        for name, part in counts.items():
            lines.append(f"| {strategy} | {name} | {' | '.join(map(str, part.values()))} |")
        lines.append(f"| {strategy} | dropped: across | | {parts['dropped']} | |")
    return "\n".join(lines) + "\n"


def _describe_similarity(record: Mapping[str, Any]) -> list[str]:
    identity = record["settings"]["max_identity"]
    if identity is None:
        return []
    kind = "approximate, misses some pairs" if record["similarity"] == "k-mers" else "all pairs"
    return [
        f"Proteins that are more than {identity:.0%} identical are in the same split (searched by"
        f" {record['similarity']}; {kind})."
    ]
