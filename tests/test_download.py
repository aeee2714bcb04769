"""The benchmark arrives by itself: from a server that behaves, and from one that does not."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from common.config_data import PRING_COMMIT, BenchmarkConfig
from common.config_file import load_config
from common.data.benchmarks import download
from common.data.benchmarks.base import Split
from common.data.benchmarks.pring import OLDER_COMMIT, Pring
from common.errors import UserError
from tests.repository_server import Repository
from tests.tiny_benchmark import (
    SPECIES,
    TinyProject,
    call_main,
    make_config,
    write_repository,
)
from tests.tiny_esm import record_log, save_tiny_esm

DATASET = "data_process/pring_dataset"
SEQUENCES = f"{SPECIES}/{SPECIES}_simple.fasta"
TRAIN, VAL, TEST = (
    f"{SPECIES}/BFS/{SPECIES}_{split}_ppi.txt" for split in ("train", "val", "test")
)
GRAPH, SETS = f"{SPECIES}/BFS/{SPECIES}_test_graph.pkl", f"{SPECIES}/BFS/test_sampled_nodes.pkl"
FLAT = "flat"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in little: a species with a split, a test species, functional data."""
    folder = tmp_path_factory.mktemp("repository")
    write_repository(folder)
    data = folder / DATASET
    (data / SPECIES / "BFS" / "all_test_ppi.txt").write_text("P000\tP000\t1\n")
    flat = data / FLAT
    flat.mkdir()
    for name in (TEST, GRAPH, SEQUENCES):
        shutil.copy(data / name, flat / Path(name).name.replace(SPECIES, FLAT))
    for strategy in ("BFS", "DFS"):
        shutil.copy(data / SETS, flat / f"{FLAT}_{strategy}_sampled_nodes.pkl")
    return folder


@pytest.fixture
def repository(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Repository]:
    """A server over a copy of it that a test may change; no proxy, and tries without a wait."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(download, "PIECE", 32)
    with Repository(shutil.copytree(original, tmp_path / "repository")).serving() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, repository: Repository) -> Callable[..., BenchmarkConfig]:
    def make(**changes: Any) -> BenchmarkConfig:
        given: dict[str, Any] = {
            "root_dir": str(tmp_path / "root"),
            "cache_dir": str(tmp_path / "cache"),
            "species": SPECIES,
            "download": True,
            "download_url": f"{repository.url}/",
        }
        return BenchmarkConfig(**(given | changes))

    return make


def provide(
    settings: BenchmarkConfig, *splits: Split, functional: Sequence[str] = ()
) -> dict[str, bytes]:
    """Fetch, and what the root then has, but for the record and the lock."""
    Pring.provide(settings, 47, splits, functional)
    return contents(Path(settings.root_dir))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in named.items() if "download" not in name}


def served(repository: Repository, *names: str) -> dict[str, bytes]:
    return {name: (repository.folder / DATASET / name).read_bytes() for name in names}


def record_of(root: Path, name: str) -> dict[str, str]:
    record: dict[str, str] = json.loads((root / "download.json").read_text())[name]
    return record


# What is fetched


def test_each_stage_fetches_what_it_reads_and_nothing_twice(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    """Never `all_test`, the largest file: it follows from the test graph."""
    with record_log() as log:
        assert provide(settings(), "train", "val") == served(repository, TRAIN, VAL, SEQUENCES)
    assert log.events() == ["file_fetched"] * 3
    everything = served(repository, TRAIN, VAL, SEQUENCES, TEST, GRAPH, SETS)
    assert provide(settings(), "test") == everything
    assert sorted(repository.paths()) == sorted(f"{DATASET}/{name}" for name in everything)
    # Complete now: the server is not even asked, and nothing needs to be written.
    Path(settings().root_dir).chmod(0o500)
    assert provide(settings(), "train", "val", "test") == everything
    assert len(repository.asked) == len(everything)
    Path(settings().root_dir).chmod(0o700)


def test_a_test_species_comes_with_the_node_sets_of_every_strategy(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    chosen = settings(species=FLAT, split_strategy="BFS")
    names = ("test_ppi.txt", "test_graph.pkl", "simple.fasta", "BFS_sampled_nodes.pkl",
             "DFS_sampled_nodes.pkl")  # fmt: skip
    expected = served(repository, *(f"{FLAT}/{FLAT}_{name}" for name in names))
    assert provide(chosen, "test") == expected
    benchmark = Pring(chosen)
    assert list(benchmark.node_sets()) == ["BFS", "DFS"]
    # One that nobody has is not asked for again: not every machine reaches the server.
    repository.asked.clear()
    assert provide(chosen, "test") == expected
    assert repository.asked == []


@pytest.mark.parametrize("species", [FLAT, "mouse"])
def test_training_on_what_the_repository_does_not_split_is_one_sentence(
    repository: Repository, settings: Callable[..., BenchmarkConfig], species: str
) -> None:
    with pytest.raises(UserError) as error:
        provide(settings(species=species), "train", "val")
    assert str(error.value).startswith(
        f"{species} (BFS) has no train file: {repository.url}/{DATASET}/{species} has no"
        f" BFS/{species}_train_ppi.txt and no {species}_train_ppi.txt. PRING has train, val"
    )
    assert contents(Path(settings().root_dir)) == {}


def test_what_is_there_stays(
    repository: Repository, settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    """Files of the user's own, in a folder that a clone has, and the layout that they have."""
    mine = tmp_path / "root" / DATASET / TRAIN
    mine.parent.mkdir(parents=True)
    mine.write_text("P000\tP001\t1\n")
    fetched = provide(settings(), "train", "val")
    assert fetched[f"{DATASET}/{TRAIN}"] == b"P000\tP001\t1\n"
    assert set(fetched) == {f"{DATASET}/{name}" for name in (TRAIN, VAL, SEQUENCES)}
    flat = tmp_path / "root" / FLAT / f"{FLAT}_test_ppi.txt"
    flat.parent.mkdir()
    flat.write_text("P040\tP041\t1\n")
    repository.asked.clear()
    provide(settings(species=FLAT), "test")
    assert not [path for path in repository.paths() if f"{FLAT}/BFS/" in path]


def test_nothing_is_fetched_into_a_root_one_level_off(
    repository: Repository, settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    provide(settings(), "train", "val")
    with pytest.raises(UserError, match=rf"set root_dir to {tmp_path}/root, which"):
        provide(settings(root_dir=str(tmp_path / "root" / SPECIES)), "test")
    repository.folder.rename(tmp_path / "root" / "aside")
    with pytest.raises(UserError, match=rf"set root_dir to {tmp_path}/root, which"):
        provide(settings(root_dir=str(tmp_path)), "test")


def test_functional_data_come_from_their_own_folders(
    repository: Repository, settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    """An essential list that the pinned commit lacks is at an older one; GO terms were renamed."""
    pinned, older = (repository.folder / commit for commit in (PRING_COMMIT, OLDER_COMMIT))
    pinned.mkdir()
    for name in ("complex_pathway", "essential_protein", "enrichment_analysis"):
        shutil.move(repository.folder / name, pinned)
    older.mkdir()
    shutil.move(pinned / "essential_protein", older)
    terms = pinned / "enrichment_analysis"
    (terms / "test_BFS_go_terms.pkl").rename(terms / "test_go_terms.pkl")
    names = ("complex_graphs.pkl", "complex_proteins.fasta", "test_go_terms.pkl",
             "selected_essential_proteins.txt", "selected_non_essential_proteins.txt")  # fmt: skip
    chosen = settings(
        functional_dir=str(tmp_path / "functional"),
        download_url=f"{repository.url}/{PRING_COMMIT}",
    )
    shutil.copytree(repository.folder / DATASET, tmp_path / "root")
    provide(chosen, "test", functional=names)
    assert set(contents(tmp_path / "functional")) == set(names)
    # A folder that is not named is not guessed.
    repository.asked.clear()
    provide(settings(), "test", functional=names)
    assert repository.asked == []


def test_without_download_nothing_is_asked_for(
    repository: Repository, settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    off = settings(download=False, functional_dir=str(tmp_path / "functional"))
    assert provide(off, "train", functional=["complex_graphs.pkl"]) == {}
    assert repository.asked == []


# Broken answers


def test_a_broken_transfer_is_resumed_where_it_broke(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    repository.faults[f"{DATASET}/{GRAPH}"] = ["break", "break"]
    assert provide(settings(), "test")[GRAPH] == served(repository, GRAPH)[GRAPH]
    offsets = [offset for path, offset in repository.asked if path.endswith(GRAPH)]
    whole = len(served(repository, GRAPH)[GRAPH])
    assert offsets[0] == 0
    assert whole // 2 - 32 < offsets[1] <= whole // 2
    assert offsets[1] < offsets[2] <= offsets[1] + (whole - offsets[1]) // 2


def test_a_start_that_failed_in_mid_file_is_resumed_by_the_next(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    repository.faults[f"{DATASET}/{TRAIN}"] = ["stay broken"]
    with pytest.raises(UserError, match=r"train_ppi.txt: the connection broke, after \d+ bytes"):
        provide(settings(), "train", "val")
    part = Path(settings().root_dir) / f"{TRAIN}.part"
    arrived = part.stat().st_size
    assert 0 < arrived < len(served(repository, TRAIN)[TRAIN])
    assert not part.with_suffix("").exists()
    repository.faults.clear()
    repository.asked.clear()
    assert provide(settings(), "train", "val") == served(repository, TRAIN, VAL, SEQUENCES)
    assert repository.asked[0] == (f"{DATASET}/{TRAIN}", arrived)


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    """Otherwise its beginning would be the older file's."""
    repository.faults[f"{DATASET}/{TRAIN}"] = ["stay broken"]
    with pytest.raises(UserError):
        provide(settings(), "train")
    repository.faults.clear()
    path = repository.folder / DATASET / TRAIN
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    assert provide(settings(), "train")[TRAIN] == path.read_bytes()


def test_a_server_without_ranges_sends_the_whole_file_again(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    repository.ranges = False
    repository.faults[f"{DATASET}/{TRAIN}"] = ["break"]
    assert provide(settings(), "train") == served(repository, TRAIN, SEQUENCES)


def test_a_part_longer_than_the_file_is_dropped(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    repository.faults[f"{DATASET}/{TRAIN}"] = ["stay broken"]
    with pytest.raises(UserError):
        provide(settings(), "train")
    repository.faults.clear()
    part = Path(settings().root_dir) / f"{TRAIN}.part"
    part.write_bytes(served(repository, TRAIN)[TRAIN] + b"more")
    assert provide(settings(), "train") == served(repository, TRAIN, SEQUENCES)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(
    repository: Repository, settings: Callable[..., BenchmarkConfig], status: int
) -> None:
    repository.faults[f"{DATASET}/{TRAIN}"] = [str(status)] * 2
    assert provide(settings(), "train") == served(repository, TRAIN, SEQUENCES)
    repository.faults[f"{DATASET}/{VAL}"] = [str(status)] * 3
    with pytest.raises(
        UserError, match=rf"val_ppi.txt: the server answers {status} \w.*; try again"
    ):
        provide(settings(), "val")
    assert provide(settings(), "val") == served(repository, TRAIN, VAL, SEQUENCES)


def test_a_refusal_is_not_repeated(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    repository.faults[f"{DATASET}/{TRAIN}"] = ["403"]
    with pytest.raises(UserError, match="the server answers 403 Forbidden; try again"):
        provide(settings(), "train")
    assert len(repository.asked) == 1


@pytest.mark.parametrize("name", [TRAIN, SEQUENCES, GRAPH, SETS])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("page", "the server sent a web page instead of the file, perhaps a login page"),
        ("text", "the file is not usable"),
        ("nothing", "the file is not usable"),
    ],
)
def test_an_answer_that_is_not_the_file_is_one_sentence(
    repository: Repository,
    settings: Callable[..., BenchmarkConfig],
    name: str,
    fault: str,
    reason: str,
) -> None:
    repository.faults[f"{DATASET}/{name}"] = [fault]
    with pytest.raises(UserError) as error:
        provide(settings(), "train", "test")
    url = f"{repository.url}/{DATASET}/{name}"
    assert str(error.value).startswith(f"cannot download {url}: {reason}")
    assert "\n" not in str(error.value)
    there = contents(Path(settings().root_dir))
    assert there == served(repository, *there)
    assert name not in there
    assert provide(settings(), "train", "test")[name] == served(repository, name)[name]


@pytest.mark.parametrize("name", [GRAPH, SETS])
def test_half_a_file_that_claims_to_be_whole_is_refused(
    repository: Repository, settings: Callable[..., BenchmarkConfig], name: str
) -> None:
    repository.faults[f"{DATASET}/{name}"] = ["half"]
    with pytest.raises(UserError, match=r"the file is not usable \(.*\.pkl"):
        provide(settings(), "test")
    assert name in provide(settings(), "test")


def test_functional_data_are_checked_too(
    repository: Repository, settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    chosen = settings(functional_dir=str(tmp_path / "functional"))
    for name, place in {
        "complex_graphs.pkl": "complex_pathway/data/complex_graphs.pkl",
        "complex_proteins.fasta": "complex_pathway/data/complex_proteins.fasta",
        "test_go_terms.pkl": "enrichment_analysis/test_BFS_go_terms.pkl",
        "selected_essential_proteins.txt": "essential_protein/selected_essential_proteins.txt",
    }.items():
        repository.faults[place] = ["text"]
        with pytest.raises(UserError, match=rf"{place}: the file is not .* copy the file of that"):
            provide(chosen, "test", functional=[name])
        assert contents(tmp_path / "functional") == {}


# What changed


def test_a_file_that_changed_on_the_disk_is_reported(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    provide(settings(), "train")
    path = Path(settings().root_dir) / TRAIN
    path.write_bytes(path.read_bytes().replace(b"\t1\n", b"\t0\n", 1))
    with pytest.raises(UserError, match=rf"{TRAIN} has changed since it was downloaded .*delete"):
        provide(settings(), "train")
    path.unlink()
    assert provide(settings(), "train") == served(repository, TRAIN, SEQUENCES)


def test_a_file_that_changed_on_the_server_is_reported(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    provide(settings(), "train")
    root = Path(settings().root_dir)
    before = record_of(root, TRAIN)
    (root / TRAIN).unlink()
    path = repository.folder / DATASET / TRAIN
    path.write_bytes(path.read_bytes() + b"P001\tP002\t1\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"has changed since an earlier run downloaded it"):
            provide(settings(), "train")
        assert not (root / TRAIN).exists()
        assert record_of(root, TRAIN)["sha256"] == before["sha256"]
    # Another address is another source.
    other = settings(download_url=repository.url.replace("127.0.0.1", "localhost"))
    assert provide(other, "train")[TRAIN] == path.read_bytes()


def test_a_damaged_record_is_one_sentence(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    provide(settings(), "train")
    record = Path(settings().root_dir) / "download.json"
    for damaged in ("{", "[]", '{"x": 1}'):
        record.write_text(damaged)
        with pytest.raises(UserError, match=r"download.json is damaged; delete it"):
            provide(settings(), "train")


# The way there


def test_the_key_that_the_hub_had_is_refused_with_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data_config: {benchmark: {hub_repo: piaolaidangqu/PRING}}")
    with pytest.raises(UserError, match=r"did you mean 'data_config\.benchmark\.download_url'"):
        load_config(path, "evaluate")


def test_by_default_the_pinned_commit_is_fetched() -> None:
    start = "https://raw.githubusercontent.com/SophieSarceau/PRING/bdf3a5fe6800a8cea321f0e7484bb0"
    assert BenchmarkConfig().download_url == f"{start}45c3146a45"
    assert not BenchmarkConfig().download


def test_without_a_server_the_sentence_says_what_to_clone(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    chosen = settings(download_url="http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        provide(chosen, "train")
    assert str(error.value) == (
        f"cannot download http://127.0.0.1:9/{DATASET}/{TRAIN}: there is no connection; try"
        " again, or clone https://github.com/SophieSarceau/PRING on a machine with internet access"
        f" and set data_config.benchmark.root_dir to its {DATASET}"
    )
    with pytest.raises(UserError, match="cannot download nowhere/"):
        provide(settings(download_url="nowhere"), "train")


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (requests.exceptions.SSLError("x"), "the server's certificate is not trusted here; set"),
        (requests.exceptions.ProxyError("x"), "the proxy set in HTTPS_PROXY or HTTP_PROXY does"),
        (requests.exceptions.ReadTimeout("x"), "the server did not respond in time"),
    ],
)
def test_what_stands_between_is_named(
    settings: Callable[..., BenchmarkConfig],
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    reason: str,
) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise raised

    monkeypatch.setattr(requests, "get", fail)
    with pytest.raises(UserError, match=rf"train_ppi.txt: {reason}"):
        provide(settings(), "train")


def test_the_environment_names_the_proxy(
    repository: Repository,
    settings: Callable[..., BenchmarkConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", repository.url)
    monkeypatch.setenv("http_proxy", repository.url)
    chosen = settings(download_url="http://pring.invalid")
    assert provide(chosen, "train") == served(repository, TRAIN, SEQUENCES)


def test_several_that_fetch_one_folder_fetch_each_file_once(
    repository: Repository, settings: Callable[..., BenchmarkConfig]
) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Pring.provide(settings(), 47, ("train", "val", "test"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    names = (TRAIN, VAL, TEST, GRAPH, SETS, SEQUENCES)
    assert contents(Path(settings().root_dir)) == served(repository, *names)
    assert sorted(repository.paths()) == sorted(f"{DATASET}/{name}" for name in names)


def test_a_folder_that_may_not_be_written_is_one_sentence(
    settings: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*train_ppi.txt: "):
        provide(settings(), "train")


@pytest.mark.pipeline
def test_from_an_empty_folder_a_model_is_trained_and_judged(
    repository: Repository, tmp_path: Path
) -> None:
    save_tiny_esm(tmp_path / "esm")
    content = make_config(tmp_path, epochs=1)
    content["data_config"]["benchmark"] |= {"download": True, "download_url": repository.url}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    project = TinyProject(tmp_path, tmp_path / "config.yaml")
    repository.faults = {f"{DATASET}/{TRAIN}": ["500", "break"], f"{DATASET}/{GRAPH}": ["break"]}
    call_main(project, "pretrain.py")
    tasks = ("pairs", "topology", "complexes", "go_modules", "essential_proteins")
    call_main(project, "evaluate.py", "--tasks", *tasks)
    (judged,) = (project.output / "logs" / "v3" / "evaluate").iterdir()
    assert (judged / "topology.csv").is_file()
    functional = json.loads((judged / "functional.json").read_text())
    assert list(functional) == ["complexes", "go_modules", "essential_proteins"]
    assert len((judged / "evaluate.csv").read_text().splitlines()) == 6
