"""Finds, downloads and reads the files of the PRING benchmark, in any layout of its releases.

The species folders are in the root directory, or in a subfolder that releases of PRING used. A
species with training data has the nested layout (`human/BFS/human_train_ppi.txt`), a species that
is only tested on has the flat layout (`yeast/yeast_BFS_sampled_nodes.pkl`); the layout is
recognized when the benchmark is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import networkx as nx

from common.config_data import PRING_COMMIT, STRATEGIES, BenchmarkConfig, Strategy
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.download import Downloads
from common.data.benchmarks.pickles import load_go_terms, load_graph, load_graphs, load_node_sets
from common.data.tables.fasta import read_sequences
from common.data.tables.pairs import PairTable, all_pairs, read_pairs
from common.data.tables.protein_list import read_protein_list
from common.errors import UserError

FileKind = Literal["train", "val", "test", "all_test", "test_graph", "node_sets", "sequences"]

DATASET = "data_process/pring_dataset"
CLONE = "clone https://github.com/SophieSarceau/PRING on a machine with internet access and"
# The subfolders of the root that may contain the species folders, in any release of PRING.
_OLD = "species_processed_data"
HOLDERS = ("", _OLD, "pring_dataset", DATASET, f"data_process/{_OLD}")

# The path of each file in its species' folder: in the nested layout, and in the flat layout.
_PLACES: dict[FileKind, tuple[str, str]] = {
    "train": ("{strategy}/{species}_train_ppi.txt", "{species}_train_ppi.txt"),
    "val": ("{strategy}/{species}_val_ppi.txt", "{species}_val_ppi.txt"),
    "test": ("{strategy}/{species}_test_ppi.txt", "{species}_test_ppi.txt"),
    "all_test": ("{strategy}/all_test_ppi.txt", "{species}_all_test_ppi.txt"),
    "test_graph": ("{strategy}/{species}_test_graph.pkl", "{species}_test_graph.pkl"),
    "node_sets": ("{strategy}/test_sampled_nodes.pkl", "{species}_{strategy}_sampled_nodes.pkl"),
    "sequences": ("{species}_simple.fasta", "{species}_simple.fasta"),
}
# The function that reads a file, by the last part of the file's name.
_READERS: dict[str, Callable[[Path, Path], object]] = {
    "ppi.txt": read_pairs,
    ".fasta": read_sequences,
    "_graph.pkl": lambda path, _: load_graph(path),
    "nodes.pkl": lambda path, _: load_node_sets(path),
    "graphs.pkl": lambda path, _: load_graphs(path),
    "terms.pkl": lambda path, _: load_go_terms(path),
    "proteins.txt": lambda path, _: read_protein_list(path),
}
# The folders of the functional data in PRING's repository, and the names of renamed files.
_FUNCTIONAL = {
    "complex_graphs.pkl": "complex_pathway/data",
    "complex_proteins.fasta": "complex_pathway/data",
    "test_go_terms.pkl": "enrichment_analysis",
    "selected_essential_proteins.txt": "essential_protein",
    "selected_non_essential_proteins.txt": "essential_protein",
}
_RENAMED = {"test_go_terms.pkl": "test_BFS_go_terms.pkl"}
# The commit that contains the lists of essential proteins.
OLDER_COMMIT = "29a1e37bd1482d0e27c787a69c5056de8d46cfb3"


class Pring(Benchmark):
    """The PRING benchmark, restricted to one species and one split strategy.

    If the root contains several folders of the species (from several releases), the folder with
    the most files is used.
    """

    # The advice in messages about a missing file.
    remedy = (
        "set data_config.benchmark.download: true, add the file to data_config.benchmark.root_dir,"
        " or choose another species or split_strategy"
    )

    def __init__(self, settings: BenchmarkConfig) -> None:
        super().__init__(settings)
        found = find_species(settings)
        if found is None:
            raise UserError(_explain_absence(settings))
        self.folder = found
        self._files = match_files(found, settings.species, settings.split_strategy)

    @classmethod
    def provide(
        cls,
        settings: BenchmarkConfig,
        seed: int,
        splits: Sequence[Split] = (),
        functional: Sequence[str] = (),
    ) -> None:
        """Download missing files, if `data_config.benchmark.download` is true."""
        if settings.download:
            _fetch_species(settings, splits)
            _fetch_functional(settings, functional)

    def pairs(self, split: Split) -> PairTable:
        """Read the labelled pairs of a split; `all_test` may be derived from the test graph."""
        if split == "all_test" and split not in self._files:
            return all_pairs(self.test_graph())
        return read_pairs(self.path(split), self.cache_dir)

    def sequences(self) -> dict[str, str]:
        """Return the amino-acid sequence of every protein of the species."""
        return read_sequences(self.path("sequences"), self.cache_dir)

    def test_graph(self) -> nx.Graph:
        """Return the network of interactions among the test proteins, self-loops included."""
        return load_graph(self.path("test_graph"))

    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        """Return the sampled sets of test proteins (node sets) by strategy and size.

        In the nested layout, every strategy has a separate test network, so only the configured
        strategy has node sets for this network. A species that is only tested on (flat layout) has
        one test network, with node sets of all three strategies.
        """
        if not strategies:
            self.path("node_sets")  # The configured strategy's node sets must exist.
        graph = self.path("test_graph")
        found: dict[Strategy, dict[int, list[frozenset[str]]]] = {}
        for strategy in sorted(strategies or STRATEGIES, key=lambda name: name != self.strategy):
            files = match_files(self.folder, self.species, strategy)
            if files.get("test_graph") == graph and "node_sets" in files:
                found[strategy] = load_node_sets(files["node_sets"])
            elif strategies:
                raise UserError(
                    f"evaluate.strategies lists {strategy}, but {self.species} has no {strategy}"
                    f" node sets for the {self.strategy} test network; remove {strategy} from"
                    " evaluate.strategies, or evaluate it in a separate run with"
                    f" data_config.benchmark.split_strategy: {strategy}"
                )
        return found

    def files(self) -> Mapping[str, Path]:
        """Return the paths of the existing files, by kind of file."""
        return {str(kind): path for kind, path in self._files.items()}

    def path(self, kind: FileKind) -> Path:
        """Return the path of an existing file of this species and strategy.

        Raises:
            UserError: The file does not exist; the message gives the expected path.
        """
        if kind in self._files:
            return self._files[kind]
        nested = _is_nested(_list_files(self.folder))
        wanted = self.folder / file_names(kind, self.species, self.strategy, nested)[0]
        raise UserError(
            f"{self.species} ({self.strategy}) has no {kind} file: {wanted} is missing;"
            f" {self.remedy}"
        )


def find_species(settings: BenchmarkConfig) -> Path | None:
    """Return the folder of the configured species below the root, or None if there is none."""
    species, strategy = settings.species, settings.split_strategy
    folders = [path for path in _species_folders(Path(settings.root_dir)) if path.name == species]
    return max(folders, key=lambda path: len(match_files(path, species, strategy)), default=None)


def _species_folders(root: Path) -> list[Path]:
    """Return all folders below the root that look like species folders of any PRING release."""
    holders = [root / holder for holder in HOLDERS if (root / holder).is_dir()]
    folders = [folder for holder in holders for folder in sorted(holder.iterdir())]
    return [folder for folder in folders if folder.is_dir() and _is_species(folder)]


def _is_species(folder: Path) -> bool:
    files = _list_files(folder)
    return _is_nested(files) or any(name.startswith(f"{folder.name}_") for name in files)


def _list_files(folder: Path) -> set[str]:
    """Return the paths of all files in a species folder and its splits, relative to the folder."""
    splits = [file for strategy in STRATEGIES for file in folder.glob(f"{strategy}/*")]
    files = [file for file in (*folder.glob("*"), *splits) if file.is_file()]
    return {file.relative_to(folder).as_posix() for file in files}


def _is_nested(files: Collection[str]) -> bool:
    return any(name.partition("/")[0] in STRATEGIES for name in files)


def match_files(folder: Path, species: str, strategy: Strategy) -> dict[FileKind, Path]:
    """Return the existing files of one species and strategy, by kind of file.

    The two layouts are not mixed: if both occur in one folder, they belong to different splits.
    """
    there = _list_files(folder)
    names = {kind: file_names(kind, species, strategy, _is_nested(there)) for kind in _PLACES}
    found = {kind: [folder / name for name in of if name in there] for kind, of in names.items()}
    return {kind: paths[0] for kind, paths in found.items() if paths}


def file_names(kind: FileKind, species: str, strategy: Strategy, nested: bool) -> list[str]:
    """Return the possible names of a file in the species folder, for the nested or flat layout."""
    place = _PLACES[kind][0 if nested else 1]
    name = place.format(species=species, strategy=strategy)
    return [name] if name.endswith(".pkl") else [name, f"{name}.gz"]


def _explain_absence(settings: BenchmarkConfig) -> str:
    root = Path(settings.root_dir)
    if there := ", ".join(sorted({folder.name for folder in _species_folders(root)})):
        return (
            f"data_config.benchmark.root_dir ({root}) has no species '{settings.species}', only"
            f" {there}; choose one of these species, or add the missing species to root_dir"
        )
    if elsewhere := _find_root_near(root):
        return (
            f"data_config.benchmark.root_dir ({root}) has no species folders; set root_dir to"
            f" {elsewhere}, which has species folders"
        )
    state = "has no species folders" if root.is_dir() else "is not an existing directory"
    return (
        f"data_config.benchmark.root_dir ({root}) {state}; set data_config.benchmark.download:"
        f" true, or {CLONE} set root_dir to its {DATASET}"
    )


def _find_root_near(root: Path) -> Path | None:
    """Return the folder above or below `root` that contains species folders, or None."""
    if not root.is_dir():
        return None
    if _is_species(root):
        return root.parent
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    return next((folder for folder in below if _species_folders(folder)), None)


def _fetch_species(settings: BenchmarkConfig, splits: Sequence[Split]) -> None:
    """Download the missing files of these splits, except `all_test`, which can be derived."""
    root, species = Path(settings.root_dir), settings.species
    folder = find_species(settings)
    if folder is None and _find_root_near(root) is not None:
        raise UserError(_explain_absence(settings))
    folder = folder or root / species
    there = match_files(folder, species, settings.split_strategy)
    files = _list_files(folder)
    layouts = [_is_nested(files)] if files - {f"{species}_simple.fasta"} else [True, False]
    downloads = Downloads(root, f"{CLONE} set data_config.benchmark.root_dir to its {DATASET}")
    url = f"{settings.download_url.rstrip('/')}/{DATASET}/{species}"

    def fetch(kind: FileKind, strategy: Strategy = settings.split_strategy) -> bool:
        """Download a file of the species; the first downloaded file determines the layout."""
        for nested in layouts:
            name = file_names(kind, species, strategy, nested)[0]
            target, check = there.get(kind, folder / name), _reader(name, settings)
            if downloads.fetch(target, [f"{url}/{name}"], check):
                layouts[:] = [nested]
                return True
        return False

    wanted = [kind for kind in _PLACES if kind in splits and kind != "all_test"]
    for kind in (*wanted, "sequences"):
        if not fetch(kind):
            raise UserError(_explain_not_there(kind, settings, url))
    if "test" in splits:
        fetch("test_graph")
        # In the flat layout, all strategies sample the same test network. The configured strategy
        # is downloaded last: if its node sets exist, all other node sets exist as well.
        if layouts == [False] and "node_sets" not in there:
            for strategy in set(STRATEGIES) - {settings.split_strategy}:
                fetch("node_sets", strategy)
        fetch("node_sets")


def _fetch_functional(settings: BenchmarkConfig, names: Sequence[str]) -> None:
    """Download missing functional files; a file that cannot be found is reported when read."""
    if settings.functional_dir is None:
        return
    folder = Path(settings.functional_dir)
    downloads = Downloads(folder, f"{CLONE} copy the file of that name to {folder}")
    url = settings.download_url.rstrip("/")
    for name in _FUNCTIONAL.keys() & names:
        urls = [f"{url}/{_FUNCTIONAL[name]}/{n}" for n in (_RENAMED.get(name, name), name)]
        urls += [each.replace(PRING_COMMIT, OLDER_COMMIT) for each in urls]
        downloads.fetch(folder / name, list(dict.fromkeys(urls)), _reader(name, settings))


def _reader(name: str, settings: BenchmarkConfig) -> Callable[[Path], object]:
    """Return a function that checks a downloaded file by reading it into the cache."""
    read = next(read for ending, read in _READERS.items() if name.endswith(ending))
    return lambda path: read(path, Path(settings.cache_dir))


def _explain_not_there(kind: FileKind, settings: BenchmarkConfig, url: str) -> str:
    species, strategy = settings.species, settings.split_strategy
    names = dict.fromkeys(
        file_names(kind, species, strategy, nested)[0] for nested in (True, False)
    )
    return (
        f"{species} ({strategy}) has no {kind} file: {url} has no {' and no '.join(names)}. PRING"
        " has train, val and test splits of human, and only test data of arath, ecoli and yeast;"
        " choose another data_config.benchmark.species or split_strategy, or set root_dir to a"
        " folder that contains the file"
    )
