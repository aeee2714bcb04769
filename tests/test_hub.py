"""Checkpoints on the hub: fetched at a revision, pushed whole, mistakes told in a sentence.

The client's own code runs, against `tests/model_hub.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from common.config_data import EmbeddingsConfig
from common.errors import UserError
from common.inference.checkpoints import choose_checkpoint, load_checkpoint, save_model
from common.inference.hub import (
    CHECKPOINT_FILES,
    check_push,
    fetch_checkpoint,
    is_hub_copy,
    is_hub_name,
    pin_checkpoint,
    push_checkpoint,
)
from common.inference.own_config import load_own_config
from common.inference.predictor import Predictor
from common.run import Run
from tests.model_hub import TOKEN, Hub, files_of
from tests.tiny_benchmark import TinyProject, call_main
from tests.tiny_pairs import one_process
from tests.tiny_run import DECISION, model_of, same_numbers

NAME = "ann/ppi"
PICKLE, NOTES = "pytorch_model.bin", "notes.txt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub that the client asks, with an empty cache, in an empty directory."""
    with Hub().serving() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield server


@pytest.fixture
def saved(run: Run) -> Path:
    return save_model(run, model_of(run.config), DECISION)


def test_a_checkpoint_is_fetched_at_its_revision_and_nothing_else_with_it(
    hub: Hub, run: Run, saved: Path
) -> None:
    old = {**files_of(saved), PICKLE: b"code", NOTES: b"-"}
    first = hub.add(NAME, old, "v1")
    newer = model_of(run.config, seed=1)
    second = hub.add(NAME, files_of(save_model(run, newer, DECISION)))
    got = fetch_checkpoint(NAME)
    assert got.name == second
    assert is_hub_copy(got)
    assert same_numbers(load_checkpoint(Path(NAME)).model, newer)
    for name, revision in ((f"{NAME}@v1", None), (NAME, "v1"), (f"{NAME}@{first}", None)):
        assert fetch_checkpoint(name, revision).name == first
    assert files_of(fetch_checkpoint(f"{NAME}@v1")).keys() == files_of(saved).keys()
    assert not any(path.endswith((PICKLE, NOTES)) for path in hub.asked)


def test_a_pinned_checkpoint_stays_when_the_hub_moves_on_and_needs_no_network(
    hub: Hub, run: Run, saved: Path
) -> None:
    first = hub.add(NAME, files_of(saved))
    pinned = choose_checkpoint(run, NAME, ("pretrain",))
    assert str(pinned) == f"{NAME}@{first}"
    hub.add(NAME, {**files_of(saved), "README.md": b"new"})
    hub.asked.clear()
    assert fetch_checkpoint(pinned).name == first
    assert hub.asked == []
    assert pin_checkpoint("some/where/else") == "some/where/else"


def test_a_local_directory_of_the_name_wins(hub: Hub, saved: Path) -> None:
    hub.add(NAME, {})
    local = Path(NAME)
    local.parent.mkdir()
    saved.rename(local)
    assert fetch_checkpoint(NAME) == local
    assert load_checkpoint(local).path == local
    with pytest.raises(UserError, match="ann/ppi is a path, so it has no revision"):
        fetch_checkpoint(NAME, "v1")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "known"),
    [("a/b", True), ("a/b@v1.0", True), ("a-b/c_d.e", True), ("a/b@feature/x", True)]
    + [(name, False) for name in ("a", "/a/b", "./a/b", "a/b/c", "a b/c", "~/b/c", "a/b@", "")],
)
def test_what_can_be_a_name_on_the_hub(name: str, known: bool) -> None:
    assert is_hub_name(name) is known


def test_mistakes_are_told_in_one_sentence(hub: Hub, saved: Path) -> None:
    hub.add("ann/other", {"config.json": b"{}"})
    hub.add("ann/secret", files_of(saved))
    hub.models["ann/secret"].private = True
    for name, sentence in (
        ("ann/none", "neither a directory ann/none nor a model of this name on the Hugging Face"),
        ("ann/secret", "set HF_TOKEN if the model is private$"),
        ("ann/other@v9", "ann/other on the Hugging Face hub has no revision 'v9'; name one of"),
        (
            "ann/other",
            r"\(commit [0-9a-f]{40}\) is not a checkpoint .* it has no model.safetensors",
        ),
    ):
        with pytest.raises(UserError, match=sentence) as raised:
            fetch_checkpoint(name)
        assert "\n" not in str(raised.value)


def test_without_the_network_the_cache_serves_and_the_rest_is_told(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, files_of(saved))
    fetch_checkpoint(NAME)
    for key, value, reason in (
        ("HF_HUB_OFFLINE", True, r"\(HF_HUB_OFFLINE is set\)"),
        ("ENDPOINT", "http://127.0.0.1:9", r"hub \(.*Connect.*\); correct the path, or connect"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(huggingface_hub.constants, key, value)
            assert fetch_checkpoint(NAME).name == commit
            with pytest.raises(UserError, match=reason) as raised:
                fetch_checkpoint("ann/unknown")
        assert "\n" not in str(raised.value)


def test_a_private_checkpoint_is_fetched_with_the_token(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, files_of(saved))
    hub.models[NAME].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load_checkpoint(Path(NAME)).decision == DECISION


@pytest.mark.parametrize("public", [False, True])
def test_a_pushed_checkpoint_is_the_one_that_is_fetched(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, public: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (saved / PICKLE).write_bytes(b"code")
    check_push(NAME, public, None)
    url = push_checkpoint(saved, NAME, public)
    assert url == f"{hub.url}/{NAME}/commit/{hub.models[NAME].names['main']}"
    assert hub.models[NAME].private is not public
    (saved / PICKLE).unlink()
    assert files_of(fetch_checkpoint(NAME)) == files_of(saved)
    (saved / "README.md").write_text("---\nlicense: mit\n---\n")
    push_checkpoint(saved, NAME, not public)
    assert hub.models[NAME].private is not public  # An existing model stays as it is.
    assert (fetch_checkpoint(NAME) / "README.md").read_text() == "---\nlicense: mit\n---\n"


def test_pushes_that_cannot_succeed_are_rejected_before_any_work(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_push(None, False, NAME)
    with pytest.raises(UserError, match=r"--public has no effect .* give --push-to-hub too"):
        check_push(None, True, None)
    with pytest.raises(UserError, match="needs an access token that may write; set HF_TOKEN"):
        check_push(NAME, False, None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for wrong in ("ppi", "ann/ppi@v1", "https://huggingface.co/ann/ppi", "a b/c"):
        with pytest.raises(UserError, match="is not the name of a model; give user/repo"):
            check_push(wrong, False, None)
    with pytest.raises(UserError, match="--checkpoint ann/x is on the hub already"):
        check_push(NAME, False, "ann/x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set; unset"):
        check_push(NAME, False, str(saved))
    assert hub.asked == []


def test_a_push_that_is_refused_says_how_to_push_later(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "another")
    with pytest.raises(UserError, match=f"later with `hf upload {NAME} {saved}`") as raised:
        push_checkpoint(saved, NAME, False)
    assert "\n" not in str(raised.value)
    assert hub.models == {}


def test_the_cache_of_the_embeddings_is_not_the_authors(hub: Hub, saved: Path) -> None:
    config = (saved / "config.yaml").read_text()
    given = "data_config.embeddings.cache_dir"
    changed = config.replace(EmbeddingsConfig().cache_dir, "/home/ann/cache")
    assert changed != config
    hub.add(NAME, {**files_of(saved), "config.yaml": changed.encode()})
    copy = fetch_checkpoint(NAME)
    assert load_own_config(copy).data.embeddings.cache_dir == EmbeddingsConfig().cache_dir
    mine = load_own_config(copy, [f"{given}=/mine"])
    assert mine.data.embeddings.cache_dir == "/mine"


def test_from_a_judged_model_to_a_stranger(
    hub: Hub,
    pretrained: tuple[TinyProject, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Judge and push, then predict with the pushed model, from the command line and Python."""
    project, best = pretrained
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    call_main(project, "evaluate.py", "--checkpoint", str(best), "--push-to-hub", NAME)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{hub.url}/{NAME}/commit/")
    pushed = hub.models[NAME].commits[hub.models[NAME].names["main"]]
    assert set(pushed) == {*CHECKPOINT_FILES, ".gitattributes"}
    assert b"#### pairs (pring tiny BFS)" in pushed["README.md"]
    Path("proteins.fasta").write_text(">A\nMKVLAAGITG\n>B\nMSERTIDPKQ\n>C\nMAGITGSERT\n")
    call_main(
        project, "evaluate.py", "--checkpoint", f"{NAME}@main", "--fasta", "proteins.fasta",
        "--output", "network.tsv", config=False,
    )  # fmt: skip
    lines = [line.split("\t") for line in Path("network.tsv").read_text().splitlines()[1:]]
    assert Path(EmbeddingsConfig().cache_dir).is_dir()
    one_process()
    ids = {"A": "MKVLAAGITG", "B": "MSERTIDPKQ", "C": "MAGITGSERT"}
    predictor = Predictor.load(NAME, revision="main")
    scores = predictor.score([(a, b) for a, b, *_ in lines], ids)
    assert [f"{score:.4f}" for score in scores] == [f"{float(line[2]):.4f}" for line in lines]
