"""The PRING benchmark: where its files lie in whatever layout, and how they get there.

Below the root lie the species folders, directly or in a folder that releases of the benchmark
used. A species with splits of its own keeps them nested (`human/BFS/human_train_ppi.txt`), a test
species lies flat (`yeast/yeast_BFS_sampled_nodes.pkl`); opening it finds out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import huggingface_hub
import networkx as nx
from tqdm import tqdm

from common.config import STRATEGIES, BenchmarkConfig, Strategy
from common.data.benchmarks.base import Benchmark, Split
from common.data.benchmarks.pickles import load_graph, load_node_sets
from common.data.tables.fasta import read_sequences
from common.data.tables.pairs import PairTable, all_pairs, read_pairs
from common.errors import UserError

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
# What a species has that is all test.
_TEST_SIDE = _FETCHED - {"train", "val"}


class Pring(Benchmark):
    """One species and split strategy of PRING, in whatever layout its files are.

    Of several folders of the species (a root may hold two releases) the one with most files counts.
    """

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
        """Fetch what is missing, if `data_config.benchmark.download` says so."""
        if settings.download:
            download_benchmark(settings)

    def pairs(self, split: Split) -> PairTable:
        """The labelled pairs of a split; `all_test` may follow from the test graph."""
        if split == "all_test" and split not in self._files:
            return all_pairs(self.test_graph())
        return read_pairs(self.path(split), self.cache_dir)

    def sequences(self) -> dict[str, str]:
        """The amino-acid sequence of every protein of the species."""
        return read_sequences(self.path("sequences"), self.cache_dir)

    def test_graph(self) -> nx.Graph:
        """The interactions among the test proteins, self-loops included."""
        return load_graph(self.path("test_graph"))

    def node_sets(
        self, strategies: Sequence[Strategy] = ()
    ) -> dict[Strategy, dict[int, list[frozenset[str]]]]:
        """The sampled subsets of the test proteins by strategy and size.

        Where each strategy has a split, and so a test network, of its own, only the configured
        strategy counts; a species that is only tested on (the flat layout) has one network and
        node sets of all three.
        """
        if not strategies:
            self.path("node_sets")  # The configured strategy's must exist.
        graph = self.path("test_graph")
        found: dict[Strategy, dict[int, list[frozenset[str]]]] = {}
        for strategy in sorted(strategies or STRATEGIES, key=lambda name: name != self.strategy):
            files = match_files(self.folder, self.species, strategy)
            if files.get("test_graph") == graph and "node_sets" in files:
                found[strategy] = load_node_sets(files["node_sets"])
            elif strategies:
                raise UserError(self._explain_no_node_sets(strategy))
        return found

    def _explain_no_node_sets(self, strategy: Strategy) -> str:
        return (
            f"evaluate.strategies names {strategy}, but {self.species} has no node sets of it on"
            f" the test network of {self.strategy}; remove it there, or evaluate it by itself with"
            f" data_config.benchmark.split_strategy: {strategy}"
        )

    def files(self) -> Mapping[str, Path]:
        """The files that exist, by what they hold."""
        return {str(kind): path for kind, path in self._files.items()}

    def path(self, kind: FileKind) -> Path:
        """Where a file is.

        Raises:
            UserError: It does not exist; the sentence names where it was looked for.
        """
        if kind in self._files:
            return self._files[kind]
        nested = _is_nested(_list_files(self.folder))
        wanted = self.folder / _names(kind, self.species, self.strategy, nested)[0]
        raise UserError(
            f"{self.species} ({self.strategy}) has no {kind}: {wanted} is missing; complete"
            " data_config.benchmark.root_dir, set data_config.benchmark.download: true, or choose"
            " another species or split_strategy"
        )


def find_species(settings: BenchmarkConfig) -> Path | None:
    """The folder of the configured species below the root, if there is one."""
    found = [
        folder
        for folder in _species_folders(Path(settings.root_dir))
        if folder.name == settings.species
    ]
    return max(
        found,
        key=lambda folder: len(match_files(folder, settings.species, settings.split_strategy)),
        default=None,
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


def match_files(folder: Path, species: str, strategy: Strategy) -> dict[FileKind, Path]:
    """The files of a species' folder by what they hold.

    The layouts are not mixed: where both occur in one folder, they belong to different splits.
    """
    there = _list_files(folder)
    return {kind: folder / name for kind, name in _match(there, species, strategy).items()}


def _match(files: Collection[str], species: str, strategy: Strategy) -> dict[FileKind, str]:
    nested = _is_nested(files)
    places = {kind: _names(kind, species, strategy, nested) for kind in _PLACES}
    found = {kind: [name for name in names if name in files] for kind, names in places.items()}
    return {kind: names[0] for kind, names in found.items() if names}


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
    elsewhere = _find_root_near(root)
    if elsewhere is not None:
        return (
            f"data_config.benchmark.root_dir ({root}) holds no species folders, but {elsewhere}"
            " does; set it to that"
        )
    state = "holds no species folders" if root.is_dir() else "is no existing directory"
    return (
        f"data_config.benchmark.root_dir ({root}) {state}; set data_config.benchmark.download:"
        f" true, or run `hf download {settings.hub_repo} --repo-type dataset --local-dir {root}`"
    )


def _find_root_near(root: Path) -> Path | None:
    """The folder above or below, where that is what was meant."""
    if not root.is_dir():
        return None
    if _is_species(root):
        return root.parent
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    return next((folder for folder in below if _species_folders(folder)), None)


def download_benchmark(settings: BenchmarkConfig) -> None:
    """Fetch what one species and strategy need from the hub; what is there already stays.

    Raises:
        UserError: The hub cannot be reached or refuses, or its repository has no such files.
    """
    folder = find_species(settings)
    local = match_files(folder, settings.species, settings.split_strategy) if folder else {}
    if local.keys() >= _FETCHED:
        return
    root = Path(settings.root_dir)
    try:
        with _hub_errors_explained(settings):
            listed = huggingface_hub.list_repo_files(settings.hub_repo, repo_type="dataset")
    except UserError:
        # A species that is all test may be complete: only the hub could tell.
        if local.keys() >= _TEST_SIDE:
            return
        raise
    with _hub_errors_explained(settings):
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
        choices.append([prefix + name for name in _wanted(files, settings)])
    best = max(choices, key=len)
    if not best:
        raise UserError(
            f"{settings.hub_repo} holds no files of {settings.species}"
            f" ({settings.split_strategy}); correct data_config.benchmark.hub_repo or fetch"
            " data_process/pring_dataset of github.com/SophieSarceau/PRING to root_dir by hand"
        )
    return best


def _wanted(files: Collection[str], settings: BenchmarkConfig) -> list[str]:
    """Of a species' files those to fetch: its split, or all of a test species' node sets."""
    matched = _match(files, settings.species, settings.split_strategy)
    wanted = {name for kind, name in matched.items() if kind in _FETCHED}
    if not _is_nested(files):
        for strategy in STRATEGIES:
            wanted.update(_names("node_sets", settings.species, strategy, nested=False))
    return sorted(wanted.intersection(files))


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
