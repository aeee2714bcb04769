"""Bad checkpoints: what is not as it was saved is refused, and nothing in it is executed.

Cases: checkpoints 400, states 100 (`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from common.config import Config
from common.data.pair_hashes import TrainedOn
from common.inference.checkpoints import Checkpoint, load_checkpoint, save_model
from common.inference.decision import Decision
from common.models import PairModel, build_model
from common.run import Run
from common.training.resume import LAST_STATE, PROGRESS_FILE, load_state, save_state, seal_progress
from tests.bad_input import Refused, assert_tried, attempt, cases, flip_bit
from tests.tiny_pairs import one_process

DECISION = Decision(0.25, "fixed", "auprc", 3, {"auprc": 0.5, "auroc": None}, "weights")
SEALED = ("config.json", "model.safetensors", "training_pairs.npy", "training_proteins.npy")
FILES = (*SEALED, "config.yaml", "decision.json")
WRONG_VALUES = [None, "x", "", "a\nb", -1, 0, 3, True, 0.5, [], [1], ["x"], {}, {"a": 1}]

Files = dict[str, bytes]


@dataclass(frozen=True)
class Saved:
    """A checkpoint as it was saved, to be damaged and put back."""

    path: Path
    files: Files
    weights: dict[str, Tensor]

    def load(self, files: Files) -> Checkpoint | Refused:
        """Attempt to load the checkpoint with these files in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        for name, content in files.items():
            (self.path / name).write_bytes(content)
        return attempt("checkpoints", lambda: load_checkpoint(self.path), self.path)

    def changed(self, name: str, content: bytes) -> Files:
        return {**self.files, name: content}

    def resealed(self, name: str, content: bytes) -> Files:
        """With one file changed by someone who knows how to make up the checksums."""
        decision = json.loads(self.files["decision.json"])
        decision["files"][name] = xxhash.xxh3_128_hexdigest(content)
        return {**self.changed(name, content), "decision.json": json.dumps(decision).encode()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("checkpoints")
    sizes = {"d_model": 4, "n_heads": 2, "encoder_layers": 1, "cross_attn_layers": 1}
    config = Config.model_validate(
        {"model_config": {**sizes, "mlp_head": {"hidden_dims": (3,)}}, "run_config": {}}
    )
    begun = Run("pretrain", "one", config, one_process(), folder / "logs", folder / "models")
    begun.log_dir.mkdir()
    begun.begin()
    return begun


@pytest.fixture(scope="module")
def saved(run: Run) -> Saved:
    torch.manual_seed(0)
    hashes = TrainedOn(np.array([3, 4], np.uint64), np.array([5], np.uint64))
    path = save_model(run, build_model(run.config.model, 5), DECISION, trained_on=hashes)
    files = {name: (path / name).read_bytes() for name in FILES}
    return Saved(path, files, safetensors.torch.load(files["model.safetensors"]))


def same_weights(model: PairModel, weights: dict[str, Tensor]) -> bool:
    found = model.state_dict()
    return found.keys() == weights.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in weights.items()
    )


def test_what_was_saved_is_loaded(saved: Saved) -> None:
    checkpoint = saved.load(saved.files)
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.decision == DECISION
    assert same_weights(checkpoint.model, saved.weights)


# Damage


def means(content: bytes) -> Decision | None:
    """What a decision.json says, by the letter; None where it is none."""
    try:
        fields = json.loads(content)
        seals = fields.pop("files")
        decision = Decision(**fields)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    numbers = [decision.threshold, *[v for v in decision.validation.values() if v is not None]]
    right = (
        all(isinstance(number, int | float) for number in numbers)
        and 0 <= decision.threshold <= 1
        and isinstance(decision.epoch, int)
        and seals.keys() == set(SEALED)
    )
    return decision if right else None


@cases(120)
@given(st.sampled_from(FILES), st.data())
def test_a_changed_file_is_noticed(saved: Saved, name: str, data: st.DataObject) -> None:
    """With another digit for `n_heads`, or a bit of a weight, the model loaded and scored other
    than it was trained; a `dtype` in words was an AttributeError.
    """  # noqa: D205
    content = saved.files[name]
    kind = data.draw(st.sampled_from(["cut", "flip", "flip", "insert", "empty"]))
    place = data.draw(st.integers(0, len(content) - 1))
    changed = {
        "cut": content[:place],
        "flip": flip_bit(content, 8 * place + data.draw(st.integers(0, 7))),
        "insert": content[:place] + data.draw(st.binary(min_size=1, max_size=9)) + content[place:],
        "empty": b"",
    }[kind]
    checkpoint = saved.load(saved.changed(name, changed))
    if name in SEALED:
        assert isinstance(checkpoint, Refused)
    elif isinstance(checkpoint, Checkpoint):
        assert same_weights(checkpoint.model, saved.weights)
        assert checkpoint.decision == (means(changed) if name == "decision.json" else DECISION)


@cases(80)
@given(st.data(), st.sampled_from(WRONG_VALUES), st.booleans())
def test_wrong_values_are_refused_or_harmless(
    saved: Saved, data: st.DataObject, value: Any, resealed: bool
) -> None:
    """In any field of config.json, or one that it does not have, with the right checksum too."""
    fields = json.loads(saved.files["config.json"])
    more = ["quantization_config", "transformers_weights", "_attn_implementation", "auto_map", "x"]
    key = data.draw(st.sampled_from([*fields, *more]))
    content = json.dumps({**fields, key: value}).encode()
    change = saved.resealed if resealed else saved.changed
    checkpoint = saved.load(change("config.json", content))
    if not resealed:
        assert isinstance(checkpoint, Refused) or content == saved.files["config.json"]


@cases(100)
@given(st.data(), st.sampled_from(WRONG_VALUES))
def test_a_decision_of_the_wrong_types_is_refused(
    saved: Saved, data: st.DataObject, value: Any
) -> None:
    """An `epoch` in words, or a list for the validation figures, was believed."""
    fields = json.loads(saved.files["decision.json"])
    key = data.draw(st.sampled_from([*fields, "x"]))
    content = json.dumps({**fields, key: value}).encode()
    checkpoint = saved.load(saved.changed("decision.json", content))
    types: dict[str, Any] = {"threshold": (int, float), "epoch": int, "mode": str}
    right = isinstance(value, types.get(key, str)) and not isinstance(value, bool)
    if key == "threshold":
        right = right and 0 <= value <= 1
    if key in ("validation", "assumed"):
        right = value == {} or value == {"a": 1}
    if key in ("calibration", "calibrated_threshold"):
        right = value is None or (key == "calibrated_threshold" and _is_probability(value))
    assert isinstance(checkpoint, Checkpoint) == (right and key not in ("x", "files"))


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


WEIGHT_DAMAGE: dict[str, Callable[[Tensor], Tensor | None]] = {
    "gone": lambda tensor: None,
    "longer": lambda tensor: torch.cat([tensor, tensor]),
    "of one number": lambda tensor: torch.zeros(()),
    "with an axis more": lambda tensor: tensor[None],
    "empty": lambda tensor: torch.zeros(0),
}


@cases(50)
@given(st.data(), st.sampled_from(sorted(WEIGHT_DAMAGE)), st.booleans())
def test_weights_that_do_not_fit_are_refused_whatever_the_checksum_says(
    saved: Saved, data: st.DataObject, damage: str, renamed: bool
) -> None:
    name = data.draw(st.sampled_from(sorted(saved.weights)))
    weights = dict(saved.weights)
    tensor = WEIGHT_DAMAGE[damage](weights.pop(name))
    odd = data.draw(st.sampled_from(["extra", name + ".x", "a\nb", "é" * 200]))
    if tensor is not None:
        weights[odd if renamed else name] = tensor.contiguous()
    content = safetensors.torch.save(weights, {"format": "pt"})
    checkpoint = saved.load(saved.resealed("model.safetensors", content))
    assert isinstance(checkpoint, Refused)
    assert "does not fit the model 'v3'" in checkpoint.sentence


@cases(12)
@given(st.binary(max_size=40), st.integers(0, 2**64 - 1))
def test_what_is_no_safetensors_file_is_refused(saved: Saved, junk: bytes, length: int) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode()
    for content in (
        junk,
        length.to_bytes(8, "little") + junk,
        len(header).to_bytes(8, "little") + header + junk,
        pickle.dumps(saved.weights) + junk,
    ):
        checkpoint = saved.load(saved.resealed("model.safetensors", content))
        assert isinstance(checkpoint, Refused)


# Code

CODE = "from pathlib import Path\nPath({!r}).touch()\nclass C: pass\n"


class Malicious:
    """Pickles as a call that leaves a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("model_type", ["relic-v3", "relic-pooled", "custom", None])
@pytest.mark.parametrize("classes", [["AutoConfig"], ["AutoConfig", "AutoModel"], ["AutoModel"]])
def test_code_beside_a_checkpoint_is_neither_run_nor_offered(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, model_type: str | None, classes: list[str]
) -> None:
    """For a config.json that names a module the library asked on the terminal whether to run it."""
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("the library asks"))
    marker = saved.path.parent / "marker"
    fields = json.loads(saved.files["config.json"])
    fields |= {"auto_map": dict.fromkeys(classes, "code.C"), "model_type": model_type}
    files = saved.resealed("config.json", json.dumps(fields).encode())
    files |= {"code.py": CODE.format(str(marker)).encode()}
    files |= {"pytorch_model.bin": pickle.dumps(Malicious(marker))}
    saved.load(files)
    assert not marker.exists()


# States


class Training:
    """The least that has a state: a model, an optimizer, a few updates."""

    def __init__(self, run: Run) -> None:
        accelerator = one_process()
        torch.manual_seed(1)
        plain = nn.Linear(3, 1)
        self.model, optimizer = accelerator.prepare(
            plain, torch.optim.AdamW(plain.parameters(), lr=0.1)
        )
        self.run = replace(run, accelerator=accelerator)
        accelerator.backward(self.model(torch.randn(5, 3)).sum())
        optimizer.step()

    def numbers(self) -> list[float]:
        return [number for part in self.model.parameters() for number in part.flatten().tolist()]


@pytest.fixture(scope="module")
def training(run: Run) -> Training:
    started = Training(run)
    save_state(started.run, {"epoch": 2, "updates": 7, "rows": [], "best": 0.5})
    return started


@pytest.fixture(scope="module")
def state(training: Training) -> Files:
    folder = training.run.model_dir / LAST_STATE
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resume(training: Training, files: Files) -> dict[str, Any] | Refused | None:
    folder = training.run.model_dir / LAST_STATE
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return attempt("states", lambda: load_state(training.run), folder)


def test_a_whole_state_is_resumed(training: Training, state: Files) -> None:
    progress = resume(training, state)
    assert isinstance(progress, dict)
    assert (progress["epoch"], progress["updates"], progress["best"]) == (2, 7, 0.5)


@cases(100)
@given(st.data())
def test_a_changed_state_is_refused_and_touches_nothing(
    training: Training, state: Files, data: st.DataObject
) -> None:
    """Another epoch in progress.json was believed, one that is missing was a KeyError."""
    name = data.draw(st.sampled_from(sorted(state)))
    content = state[name]
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = flip_bit(content, 8 * place + data.draw(st.integers(0, 7)))
    changed = data.draw(st.sampled_from([flipped, flipped, content[:place], b"", None]))
    files = {**state, name: changed} if changed is not None else {**state}
    if changed is None:
        del files[name]
    before = training.numbers()
    assert isinstance(resume(training, files), Refused)
    assert training.numbers() == before


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl", "model.safetensors"])
def test_no_file_of_a_state_runs_code(training: Training, state: Files, name: str) -> None:
    """Not even with the right checksum: the library then loads weights only."""
    marker = training.run.model_dir / "marker"
    content = pickle.dumps(Malicious(marker), 2)
    assert isinstance(resume(training, {**state, name: content}), Refused)
    progress = json.loads(state[PROGRESS_FILE])
    del progress["seal"]
    progress["files"][name] = xxhash.xxh3_128_hexdigest(content)
    resume(training, {**state, name: content, PROGRESS_FILE: seal_progress(progress).encode()})
    assert not marker.exists()


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(request, {"checkpoints": 400, "states": 100})
