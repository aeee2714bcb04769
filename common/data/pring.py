"""The PRING benchmark: its pairs, sequences, graphs and node sets, whatever layout they lie in.

Below the root lie the species folders, directly or in a folder that releases of the benchmark
used. A species with splits of its own keeps them nested (`human/BFS/human_train_ppi.txt`), a test
species lies flat (`yeast/yeast_BFS_sampled_nodes.pkl`); `open_benchmark` finds out. What is parsed
from text is kept as an Arrow data set under the file's content hash, so it is parsed once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets
import huggingface_hub
import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from tqdm import tqdm

from common.config import STRATEGIES, BenchmarkConfig, Strategy
from common.data.fasta import cached_dataset, read_sequences, read_text
from common.data.pickles import load_graph, load_node_sets
from common.errors import UserError, excerpt

Split = Literal["train", "val", "test", "all_test"]
FileKind = Literal["train", "val", "test", "all_test", "test_graph", "node_sets", "sequences"]

# Where the species folders may lie below the root, over the releases of the benchmark.
HOLDERS = (
    "",
    "species_processed_data",
    "pring_dataset",
    "data_process/pring_dataset",
    "data_process/species_processed_data",
)

# Where a file lies in its species' folder: in the nested layout, in the flat one.
_PLACES: dict[FileKind, tuple[str, str]] = {
    "train": ("{strategy}/{species}_train_ppi.txt", "{species}_train_ppi.txt"),
    "val": ("{strategy}/{species}_val_ppi.txt", "{species}_val_ppi.txt"),
    "test": ("{strategy}/{species}_test_ppi.txt", "{species}_test_ppi.txt"),
    "all_test": ("{strategy}/all_test_ppi.txt", "{species}_all_test_ppi.txt"),
    "test_graph": ("{strategy}/{species}_test_graph.pkl", "{species}_test_graph.pkl"),
    "node_sets": ("{strategy}/test_sampled_nodes.pkl", "{species}_{strategy}_sampled_nodes.pkl"),
    "sequences": ("{species}_simple.fasta", "{species}_simple.fasta"),
}
# `all_test` is not among what is fetched: the largest file, it follows from the test graph.
_FETCHED = _PLACES.keys() - {"all_test"}

_PAIR_COLUMNS = ("protein_a", "protein_b", "label")


@dataclass(frozen=True, eq=False, repr=False)
class PairTable:
    """Labelled pairs as row numbers into their proteins.

    Attributes:
        proteins: The ids that occur in the pairs, sorted.
        pairs: (N, 2) int64, row numbers into `proteins`, in the order of the file.
        labels: (N,) int8, 1 where the pair interacts, else 0.
    """

    proteins: tuple[str, ...]
    pairs: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"PairTable({len(self)} pairs of {len(self.proteins)} proteins)"

    @classmethod
    def from_dataset(cls, dataset: datasets.Dataset) -> PairTable:
        """Number the proteins of a data set with the columns protein_a, protein_b, label."""
        table = dataset.with_format("arrow")[:]
        sides = [table.column(name).chunks for name in ("protein_a", "protein_b")]
        ids = pa.chunked_array([*sides[0], *sides[1]], pa.string()).combine_chunks()
        encoded = ids.dictionary_encode()
        order = pc.sort_indices(encoded.dictionary).to_numpy()
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows = rank[encoded.indices.to_numpy()].reshape(2, -1)
        return cls(
            proteins=tuple(encoded.dictionary.take(pa.array(order)).to_pylist()),
            pairs=np.ascontiguousarray(rows.T),
            labels=table.column("label").to_numpy().astype(np.int8),
        )

    @property
    def is_self(self) -> npt.NDArray[np.bool_]:
        """(N,) True where both sides are the same protein (a homodimer)."""
        return np.equal(self.pairs[:, 0], self.pairs[:, 1])

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> PairTable:
        """The pairs under a mask or at row numbers, with the proteins that they still name."""
        kept = self.pairs[rows]
        used, numbers = np.unique(kept, return_inverse=True)
        return PairTable(
            proteins=tuple(self.proteins[row] for row in used),
            pairs=numbers.reshape(-1, 2).astype(np.int64),
            labels=self.labels[rows],
        )


@dataclass(frozen=True)
class MissingReport:
    """What was dropped for want of a sequence.

    Attributes:
        pairs: How many pairs.
        proteins: How many proteins have no sequence.
        names: The first few of those.
    """

    pairs: int
    proteins: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """One species and split strategy of the benchmark, opened by `open_benchmark`.

    Attributes:
        folder: The species' folder.
        species: Its name, also the prefix of its files.
        strategy: How the test proteins, or their sampled subgraphs, were drawn.
        files: The files that are there.
        cache_dir: Where parsed text is kept.
    """

    folder: Path
    species: str
    strategy: Strategy
    files: Mapping[FileKind, Path]
    cache_dir: Path

    def pairs(self, split: Split) -> PairTable:
        """The labelled pairs of a split.

        `all_test` is every unordered pair of the test proteins, self-pairs included; where the
        benchmark has no file for it, it follows from the test graph.
        """
        if split == "all_test" and split not in self.files:
            return all_pairs(self.test_graph())
        return read_pairs(self.path(split), self.cache_dir)

    def sequences(self) -> dict[str, str]:
        """The amino-acid sequence of every protein of the species."""
        return read_sequences(self.path("sequences"), self.cache_dir)

    def test_graph(self) -> nx.Graph:
        """The interactions among the test proteins, self-loops included."""
        return load_graph(self.path("test_graph"))

    def node_sets(self) -> dict[int, list[frozenset[str]]]:
        """The test proteins' sampled subsets of every size, as the strategy draws them."""
        return load_node_sets(self.path("node_sets"))

    def path(self, kind: FileKind) -> Path:
        """Where a file lies.

        Raises:
            UserError: It is not there; the sentence names where it was looked for.
        """
        if kind in self.files:
            return self.files[kind]
        nested = _is_nested(_list_files(self.folder))
        wanted = self.folder / _names(kind, self.species, self.strategy, nested)[0]
        raise UserError(
            f"{self.species} ({self.strategy}) has no {kind}: {wanted} is missing; complete"
            " data_config.benchmark.root_dir, set data_config.benchmark.download: true, or choose"
            " another species or split_strategy"
        )


def open_benchmark(settings: BenchmarkConfig) -> Benchmark:
    """Find a species' files below the configured root, fetching them first if so configured.

    Raises:
        UserError: The root or the species is not there, with what is there and how to get the
            rest; or the download failed.
    """
    if settings.download:
        download_benchmark(settings)
    benchmark = _find(settings)
    if benchmark is None:
        raise UserError(_explain_absence(settings))
    return benchmark


def _find(settings: BenchmarkConfig) -> Benchmark | None:
    """The species' folder, of several (a root may hold two releases) the one with most files."""
    found = [
        (folder, _match(_list_files(folder), settings))
        for folder in _species_folders(Path(settings.root_dir))
        if folder.name == settings.species
    ]
    if not found:
        return None
    folder, files = max(found, key=lambda candidate: len(candidate[1]))
    return Benchmark(
        folder=folder,
        species=settings.species,
        strategy=settings.split_strategy,
        files={kind: folder / name for kind, name in files.items()},
        cache_dir=Path(settings.cache_dir),
    )


def _species_folders(root: Path) -> list[Path]:
    """The folders that look like a species', wherever a release of the benchmark keeps them."""
    holders = [root / holder for holder in HOLDERS if (root / holder).is_dir()]
    folders = [folder for holder in holders for folder in sorted(holder.iterdir())]
    return [folder for folder in folders if folder.is_dir() and _is_species(folder)]


def _is_species(folder: Path) -> bool:
    files = _list_files(folder)
    return _is_nested(files) or any(name.startswith(f"{folder.name}_") for name in files)


def _list_files(folder: Path) -> set[str]:
    """The files of a species' folder and of the splits in it, relative to the folder."""
    splits = [file for strategy in STRATEGIES for file in folder.glob(f"{strategy}/*")]
    files = [file for file in (*folder.glob("*"), *splits) if file.is_file()]
    return {file.relative_to(folder).as_posix() for file in files}


def _is_nested(files: Collection[str]) -> bool:
    return any(name.partition("/")[0] in STRATEGIES for name in files)


def _match(files: Collection[str], settings: BenchmarkConfig) -> dict[FileKind, str]:
    """Which file of a species' folder is what.

    The layouts are not mixed: where both stand in one folder, they belong to different splits.
    """
    nested = _is_nested(files)
    places = {
        kind: _names(kind, settings.species, settings.split_strategy, nested) for kind in _PLACES
    }
    there = {kind: [name for name in names if name in files] for kind, names in places.items()}
    return {kind: names[0] for kind, names in there.items() if names}


def _names(kind: FileKind, species: str, strategy: Strategy, nested: bool) -> list[str]:
    place = _PLACES[kind][0 if nested else 1]
    name = place.format(species=species, strategy=strategy)
    return [name] if name.endswith(".pkl") else [name, f"{name}.gz"]


def _explain_absence(settings: BenchmarkConfig) -> str:
    root = Path(settings.root_dir)
    there = ", ".join(sorted({folder.name for folder in _species_folders(root)}))
    if there:
        return (
            f"data_config.benchmark.root_dir ({root}) has no species '{settings.species}', only"
            f" {there}; choose one of these or complete the directory"
        )
    state = "holds no species folders" if root.is_dir() else "is no existing directory"
    return (
        f"data_config.benchmark.root_dir ({root}) {state}; set data_config.benchmark.download:"
        f" true, or run `hf download {settings.hub_repo} --repo-type dataset --local-dir {root}`"
    )


def download_benchmark(settings: BenchmarkConfig) -> None:
    """Fetch what one species and strategy need from the hub; what is there already stays.

    Raises:
        UserError: The hub cannot be reached or refuses, or its repository has no such files.
    """
    local = _find(settings)
    if local and local.files.keys() >= _FETCHED:
        return
    root = Path(settings.root_dir)
    with _hub_errors_explained(settings):
        listed = huggingface_hub.list_repo_files(settings.hub_repo, repo_type="dataset")
        wanted = _choose(listed, settings)
        missing = [name for name in wanted if not (root / name).is_file()]
        for name in tqdm(missing, desc=f"fetching {settings.species}", unit="file"):
            huggingface_hub.hf_hub_download(
                settings.hub_repo, name, repo_type="dataset", local_dir=root
            )


def _choose(listed: list[str], settings: BenchmarkConfig) -> list[str]:
    """The files to fetch, of the folder that has most of them."""
    choices = []
    for holder in HOLDERS:
        prefix = f"{holder}/{settings.species}/".lstrip("/")
        files = {name.removeprefix(prefix) for name in listed if name.startswith(prefix)}
        matched = _match(files, settings)
        choices.append([prefix + name for kind, name in matched.items() if kind in _FETCHED])
    best = max(choices, key=len)
    if not best:
        raise UserError(
            f"{settings.hub_repo} holds no files of {settings.species}"
            f" ({settings.split_strategy}); correct data_config.benchmark.hub_repo or fetch"
            " data_process/pring_dataset of github.com/SophieSarceau/PRING to root_dir by hand"
        )
    return best


@contextlib.contextmanager
def _hub_errors_explained(settings: BenchmarkConfig) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    # The client also lets the errors of its HTTP library through; they share no base with its own.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot fetch the benchmark from {settings.hub_repo}: {reason}; try again, or fetch it"
            f" to {settings.root_dir} by hand and set data_config.benchmark.download: false"
        ) from None


def read_pairs(path: str | Path, cache_dir: str | Path) -> PairTable:
    """Read a pair file: lines of protein, protein, label, apart by tabs or spaces.

    Args:
        path: The file; `.gz` is unpacked.
        cache_dir: Where the parsed file is kept (columns protein_a, protein_b, label).

    Raises:
        UserError: A line that does not hold two proteins and a label 0 or 1, by its number; an
            empty file; a file that cannot be read.
    """
    path = Path(path)
    text = read_text(path)
    dataset = cached_dataset("pairs", text, Path(cache_dir), lambda: _parse_pairs(text, path))
    return PairTable.from_dataset(dataset)


def _parse_pairs(text: str, path: Path) -> pa.Table:
    table = _parse_regular(text)
    return _parse_lines(text, path) if table is None else table


def _parse_regular(text: str) -> pa.Table | None:
    """The rows of a file in the benchmark's own form; None where anything else is met."""
    try:
        table = csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=csv.ReadOptions(column_names=_PAIR_COLUMNS),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(_PAIR_COLUMNS, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    *ids, labels = table.columns
    regular = [pc.match_substring_regex(column, "^[!-~]+$") for column in ids]
    regular.append(pc.is_in(labels, pa.array(["0", "1"])))
    if not all(pc.all(column).as_py() for column in regular):
        return None
    return table.set_column(2, "label", pc.equal(labels, "1").cast(pa.int8()))


def _parse_lines(text: str, path: Path) -> pa.Table:
    """The rows line by line: slower, with other separators, and with the number of a bad line."""
    rows = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3:
            raise UserError(
                f"{path}, line {number}: {len(fields)} columns instead of three (protein, protein,"
                " label); mend or remove the line"
            )
        if fields[2] not in ("0", "1"):
            raise UserError(
                f"{path}, line {number}: the label '{excerpt(fields[2])}' is neither 0 nor 1; mend"
                " the line"
            )
        if not "".join(fields).isprintable():
            raise UserError(
                f"{path}, line {number}: '{excerpt(' '.join(fields))}' has characters that cannot"
                " be seen; remove them"
            )
        rows.append((fields[0], fields[1], int(fields[2])))
    if not rows:
        raise UserError(f"{path} holds no pairs; expected lines of protein, protein, label")
    schema = pa.schema(
        [("protein_a", pa.string()), ("protein_b", pa.string()), ("label", pa.int8())]
    )
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, schema=schema)


def all_pairs(graph: nx.Graph) -> PairTable:
    """Every unordered pair of a graph's nodes, self-pairs included, labelled by its edges.

    Pairs come in the order of the sorted ids: (0, 0), (0, 1), …, (n - 1, n - 1).
    """
    proteins = tuple(sorted(graph))
    rows, columns = np.triu_indices(len(proteins))
    adjacency = nx.to_numpy_array(graph, nodelist=proteins, dtype=np.int8, weight=None)
    return PairTable(proteins, np.stack([rows, columns], axis=1), adjacency[rows, columns])


def check_sequences(
    table: PairTable,
    sequences: Mapping[str, str],
    policy: Literal["refuse", "drop"],
    origin: str,
) -> tuple[PairTable, MissingReport | None]:
    """See that every protein of the pairs has a sequence.

    Args:
        table: The pairs.
        sequences: The sequences by protein.
        policy: `data_config.benchmark.missing_sequences`.
        origin: What the pairs are called in a message.

    Returns:
        The pairs that have their sequences, and what was dropped, if anything was.

    Raises:
        UserError: Sequences are missing and the policy refuses that, or no pair would be left.
    """
    missing = [row for row, protein in enumerate(table.proteins) if protein not in sequences]
    if not missing:
        return table, None
    dropped = np.any(np.isin(table.pairs, missing), axis=1)
    names = tuple(table.proteins[row] for row in missing[:3])
    report = MissingReport(int(dropped.sum()), len(missing), names)
    if policy == "refuse" or dropped.all():
        raise UserError(_explain_missing(report, table, origin))
    return table.select(~dropped), report


def _explain_missing(report: MissingReport, table: PairTable, origin: str) -> str:
    names = ", ".join(map(excerpt, report.names))
    names += ", …" if report.proteins > len(report.names) else ""
    remedy = "add them"
    if report.pairs < len(table):
        remedy += ", or set data_config.benchmark.missing_sequences: drop"
    return (
        f"{origin}: {report.proteins} of {len(table.proteins)} proteins ({names}) have no sequence,"
        f" which concerns {report.pairs} of {len(table)} pairs; {remedy}"
    )


def overlap(a: PairTable, b: PairTable) -> set[str]:
    """The proteins that occur in both tables: none between the train and test pairs of PRING."""
    return set(a.proteins) & set(b.proteins)
