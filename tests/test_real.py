"""`scripts/real.sh`, with local servers in place of the benchmark's repository and the hub."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.model_hub import Hub, files_of
from tests.repository_server import Repository
from tests.tiny_benchmark import ROOT, SPECIES, Finished, run_command, write_repository
from tests.tiny_esm import save_tiny_esm

pytestmark = pytest.mark.launch

MODEL = "facebook/esm2_t6_8M_UR50D"
SMALL = [
    f"data_config.benchmark.species={SPECIES}",
    "data_config.max_sequence_length=60",
    "data_config.validation.fraction=0.3",
    "data_config.validation.walks=1",
    "training_config.epochs=1",
]


def real(folder: Path, *arguments: str, **environment: str) -> Finished:
    """The script with this interpreter's environment, from another folder, on one thread."""
    return run_command(
        ["bash", str(ROOT / "scripts" / "real.sh"), *arguments],
        folder,
        VIRTUAL_ENV=sys.prefix,
        PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        **environment,
    )


def test_from_an_empty_folder_to_scored_proteins_and_only_once(tmp_path: Path) -> None:
    write_repository(tmp_path / "repository")
    save_tiny_esm(tmp_path / "esm")
    folder = tmp_path / "empty"
    folder.mkdir()
    with (
        Repository(tmp_path / "repository").serving() as repository,
        Hub().serving() as hub,
    ):
        hub.add(MODEL, files_of(tmp_path / "esm"))
        command = [
            "--url", repository.url, "--benchmark", "pring", "--cache", "kept", "--output", "mine",
            "--threads", "1", f"data_config.benchmark.functional_dir={folder / 'functional'}",
            *SMALL,
        ]  # fmt: skip
        online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        finished = real(folder, *command, **online)
        assert finished.code == 0, finished.stderr
        assert any(each.endswith("model.safetensors") for each in hub.fetched())
        before = len(repository.asked), len(hub.fetched())
        again = real(folder, *command, **online)
        # Nothing was fetched, embedded, trained, judged or scored twice.
        assert (len(repository.asked), len(hub.fetched())) == before
    assert steps(finished) == ["1 of 5", "2 of 5", "3 of 5", "4 of 5", "5 of 5", "done"]
    assert again.stdout == ""
    told = [line for line in again.stderr.splitlines() if "already" in line]
    assert [line[line.index(":") + 2 :] for line in told] == [
        "2 of 5: the threshold has already been chosen",
        "3 of 5: training is complete already",
        "4 of 5: the model has already been evaluated",
        "5 of 5: the example has already been scored",
    ]
    # All that it left is where it was asked to be.
    assert sorted(path.name for path in folder.iterdir()) == ["functional", "kept", "mine", "pring"]
    best = folder / "mine/models/factorised/pretrain/real/best_model"
    assert f"--checkpoint {best} --fasta proteins.fasta" in again.stderr
    # What is kept was trained on all pairs, and takes over the threshold of what was not.
    choice = best.parents[1] / "choice" / "best_model"
    modes, decisions = zip(
        *((read_mode(each), read_decision(each)) for each in (choice, best)), strict=True
    )
    assert modes == ("protein_disjoint", "benchmark")
    assert decisions[0]["mode"] == "match_density"
    assert decisions[1]["mode"] == "fixed"
    assert decisions[0]["threshold"] == decisions[1]["threshold"]
    judged = folder / "mine/logs/factorised/evaluate/real"
    assert list(json.loads((judged / "functional.json").read_text())) == [
        "complexes", "go_modules", "essential_proteins",
    ]  # fmt: skip
    scored = (folder / "mine/example.tsv").read_text().splitlines()
    assert len([line for line in scored if line.startswith("MADE")]) == 30 * 29 // 2


def test_mistakes_and_help_are_answered_before_any_work(tmp_path: Path) -> None:
    for arguments, message in {
        ("--modle", "x"): "--modle is not an option",
        ("--url",): "--url needs a value",
        ("epochs",): "'epochs' is neither an option nor KEY=VALUE",
    }.items():
        finished = real(tmp_path, *arguments)
        assert finished.code == 2
        assert message in finished.stderr
    finished = real(tmp_path, "--help")
    assert finished.code == 0
    assert "--language-model NAME" in finished.stdout


def read_mode(checkpoint: Path) -> str:
    """How the training of a checkpoint was validated."""
    config = yaml.safe_load((checkpoint / "config.yaml").read_text())
    return str(config["data_config"]["validation"]["mode"])


def read_decision(checkpoint: Path) -> dict[str, object]:
    """The mode and value of a checkpoint's threshold."""
    decision: dict[str, object] = json.loads((checkpoint / "decision.json").read_text())
    return decision


def steps(finished: Finished) -> list[str]:
    """The steps that the script has announced."""
    lines = [line for line in finished.stderr.splitlines() if line.startswith("== ")]
    return [re.split("[:.] ", line, maxsplit=2)[1] for line in lines]
