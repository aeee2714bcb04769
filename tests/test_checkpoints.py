"""Checkpoints: written whole, read back exactly, refused when they are not right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.data.pair_hashes import TrainedOn
from common.errors import UserError
from common.files import temporary_beside
from common.inference.checkpoints import (
    BEST_MODEL,
    TRAINING_PAIRS,
    checksums_of,
    choose_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_model,
)
from common.inference.compatibility import check_fits, check_same_language_model, continue_model
from common.models import PairModel
from common.run import Run
from common.training.resume import LAST_STATE, load_state, save_state
from tests.tiny_pairs import MemoryStore
from tests.tiny_run import (
    DECISION,
    DIM,
    Killed,
    configure,
    die_on_the_second_call,
    model_of,
    same_numbers,
)


def test_a_run_that_goes_on_keeps_to_the_checkpoint_it_began_from(run: Run) -> None:
    """A pretraining that ended meanwhile was taken for it, being the newest."""
    older = save_model(replace(run, model_dir=run.model_dir.parent / "a"), model_of(run.config),
                       DECISION)  # fmt: skip
    assert choose_checkpoint(run, None, ("pretrain",)) == older
    begun = run.begun_from(older)
    begun.begin()
    newer = save_model(run, model_of(run.config), DECISION)
    assert choose_checkpoint(run, None, ("pretrain",)) == newer
    assert choose_checkpoint(run, "named", ("pretrain",)) == Path("named")
    assert choose_checkpoint(replace(run, resuming=True), None, ("pretrain",)) == older


def test_a_checkpoint_brings_back_model_config_and_decision(run: Run) -> None:
    model = model_of(run.config)
    path = save_model(run, model, DECISION)
    assert path == run.model_dir / BEST_MODEL
    loaded = load_checkpoint(path, "v3")
    assert same_numbers(loaded.model, model)
    assert loaded.config == run.config
    assert loaded.decision == DECISION
    assert [entry.name for entry in run.model_dir.iterdir()] == [BEST_MODEL]


def test_loaded_weights_begin_where_products_do_not_depend_on_it(run: Run) -> None:
    """They lay in the mapped file at odd multiples of 4 bytes, and gave other last bits there."""
    model = load_checkpoint(save_model(run, model_of(run.config), DECISION)).model
    assert {tensor.data_ptr() % 64 for tensor in model.state_dict().values()} == {0}


def test_a_checkpoint_lists_what_it_was_trained_on_if_it_knows_that(run: Run) -> None:
    """Checkpoints of before the lists load as before."""
    pairs, proteins = np.array([3, 2**63 + 1], np.uint64), np.array([5], np.uint64)
    for known in (TrainedOn(pairs, proteins), TrainedOn(pairs)):
        path = save_model(run, model_of(run.config), DECISION, trained_on=known)
        loaded = load_checkpoint(path).trained_on
        assert loaded is not None
        assert loaded.pairs.tolist() == [3, 2**63 + 1]
        assert (loaded.proteins is None) == (known.proteins is None)
        assert loaded.proteins is None or loaded.proteins.tolist() == [5]
    assert load_checkpoint(save_model(run, model_of(run.config), DECISION)).trained_on is None


def test_a_list_of_training_pairs_that_is_changed_or_gone_is_refused(run: Run) -> None:
    """Without it, test pairs that the model was trained on would not be found."""
    hashes = np.array([3, 4], np.uint64)
    path = save_model(run, model_of(run.config), DECISION, trained_on=TrainedOn(hashes))
    np.save(path / TRAINING_PAIRS, hashes[:1])
    with pytest.raises(UserError, match=r"training_pairs.npy has changed since it was saved"):
        load_checkpoint(path)
    for content in (np.array([{"a": 1}]), np.array(["a"]), hashes.reshape(1, 2)):
        np.save(path / TRAINING_PAIRS, content)
        seal(path)
        with pytest.raises(UserError, match=r"training_pairs.npy .*; copy the checkpoint again"):
            load_checkpoint(path)
    (path / TRAINING_PAIRS).unlink()
    with pytest.raises(UserError, match=r"training_pairs.npy has changed since it was saved"):
        load_checkpoint(path)


def test_a_decision_of_an_older_version_assumed_nothing(run: Run) -> None:
    path = save_model(run, model_of(run.config), replace(DECISION, assumed={"density": 0.01}))
    assert load_checkpoint(path).decision.assumed == {"density": 0.01}
    file = path / "decision.json"
    content = json.loads(file.read_text())
    del content["assumed"]
    file.write_text(json.dumps(content))
    assert load_checkpoint(path).decision == DECISION


def test_a_list_of_training_pairs_runs_no_code(run: Run, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    trained_on = TrainedOn(np.array([3], np.uint64))
    path = save_model(run, model_of(run.config), DECISION, trained_on=trained_on)
    np.save(path / TRAINING_PAIRS, np.array([Bomb()], object))
    seal(path)
    with pytest.raises(UserError, match=r"training_pairs.npy .*; copy the checkpoint again"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_better_model_takes_the_place_of_the_best(run: Run) -> None:
    save_model(run, model_of(run.config, seed=0), DECISION)
    better = model_of(run.config, seed=1)
    loaded = load_checkpoint(save_model(run, better, replace(DECISION, epoch=4)))
    assert same_numbers(loaded.model, better)
    assert loaded.decision.epoch == 4


@pytest.mark.parametrize("moment", ["while writing", "half-way through the swap"])
def test_a_kill_while_saving_leaves_the_older_model(
    run: Run, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = model_of(run.config, seed=0)
    best = save_model(run, older, DECISION)
    with monkeypatch.context() as patch:
        if moment == "while writing":
            patch.setattr(PairModel, "save_pretrained", die_half_way)
        else:
            patch.setattr(Path, "rename", die_on_the_second_call(Path.rename))
        with pytest.raises(Killed):
            save_model(run, model_of(run.config, seed=1), DECISION)
    assert load_state(run) is None  # What a resumed run calls first.
    assert same_numbers(load_checkpoint(best).model, older)
    assert [entry.name for entry in run.model_dir.iterdir()] == [BEST_MODEL]


def test_what_a_kill_left_half_written_gets_into_no_later_checkpoint(run: Run) -> None:
    """A model of an epoch done again after a resume held the killed run's temporary files."""
    for name in ("epoch_002", LAST_STATE):
        junk = temporary_beside(run.model_dir / name)
        junk.mkdir(parents=True)
        (junk / ".config.yaml.0123.tmp").write_text("half")
    path = save_model(run, model_of(run.config), DECISION, name="epoch_002")
    assert len(list(path.iterdir())) == 5
    save_state(run, {"epoch": 2})
    assert not list((run.model_dir / LAST_STATE).glob(".*"))


def die_half_way(model: PairModel, directory: Path) -> None:
    (directory / "config.json").write_text("{")
    raise Killed


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "config.yaml", "decision.json"]
)
def test_a_directory_without_one_of_the_files_is_no_checkpoint(run: Run, name: str) -> None:
    path = save_model(run, model_of(run.config), DECISION)
    (path / name).unlink()
    with pytest.raises(UserError, match=rf"best_model is not a checkpoint .* no {name}; .*--check"):
        load_checkpoint(path)


DAMAGE: dict[str, tuple[str, Callable[[str], str], str]] = {
    "decision cut": ("decision.json", lambda s: s[:20], r"decision.json is damaged: "),
    "decision a list": ("decision.json", lambda s: "[1]", r"decision.json is damaged: "),
    "decision without its epoch": (
        "decision.json",
        lambda s: s.replace('"epoch"', '"epoche"'),
        r"decision.json is damaged: ",
    ),
    "a threshold in words": (
        "decision.json",
        lambda s: s.replace(str(0.1 + 0.2), '"high"'),
        r"decision.json is damaged: .*high",
    ),
    "config.yaml cut": ("config.yaml", lambda s: s[: s.index("d_model") + 4], r"config.yaml.*YAML"),
    "config.yaml with more": (
        "config.yaml",
        lambda s: s + "extra: 1\n",
        r"config.yaml, line \d+: unknown key 'extra'",
    ),
    "config.json cut": ("config.json", lambda s: s[:20], r"best_model cannot be read: "),
    "config.json empty": ("config.json", lambda s: "", r"best_model cannot be read: "),
    "config.json a number": ("config.json", lambda s: "5", r"best_model cannot be read: "),
    "config.json of another model": (
        "config.json",
        lambda s: json.dumps({"model_type": "relic-pooled"}),
        r"config.yaml names the model type relic-v3, but config.json names relic-pooled",
    ),
    "config.json of no model here": (
        "config.json",
        lambda s: json.dumps({"model_type": "esm"}),
        r"but config.json names esm",
    ),
    "another width": (
        "config.json",
        lambda s: s.replace('"d_model": 8', '"d_model": 10'),
        r"does not fit the model 'v3': \d+ mismatched keys \(such as \('cls'",
    ),
    "a width in words": (
        "config.json",
        lambda s: s.replace('"d_model": 8', '"d_model": "wide"'),
        r"best_model cannot be read: ",
    ),
    "another activation": (
        "config.json",
        lambda s: s.replace('"gelu"', '"gulp"'),
        r"best_model cannot be read: .*gulp",
    ),
}


def seal(path: Path) -> None:
    """Make up the checksums of a changed checkpoint, so that other checks have their turn."""
    content = json.loads((path / "decision.json").read_text())
    (path / "decision.json").write_text(json.dumps({**content, "files": checksums_of(path)}))


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(run: Run, case: str) -> None:
    name, damage, message = DAMAGE[case]
    path = save_model(run, model_of(run.config), DECISION)
    before = (path / name).read_text()
    (path / name).write_text(damage(before))
    assert (path / name).read_text() != before
    if name == "config.json":
        with pytest.raises(UserError, match=r"config.json has changed since it was saved"):
            load_checkpoint(path, "v3")
        seal(path)
    with pytest.raises(UserError, match=message) as refused:
        load_checkpoint(path, "v3")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_model_is_refused(run: Run) -> None:
    path = save_model(run, model_of(run.config), DECISION)
    with pytest.raises(
        UserError, match=r"contains the model 'v3', but model_config.model is 'pooled'"
    ):
        load_checkpoint(path, "pooled")


def store_of(dim: int, language_model: str = "weights") -> MemoryStore:
    """Embeddings of a width, by a language model of this hash."""
    store = MemoryStore({"P": np.zeros((1, dim), dtype=np.float16)})
    store.language_model = language_model
    return store


def test_a_model_goes_on_with_other_dropout_but_not_as_another_one(run: Run) -> None:
    """Neither had any effect but on the configuration that was saved."""
    checkpoint = load_checkpoint(save_model(run, model_of(run.config), DECISION))
    settings = run.config.model
    more = settings.regularization.model_copy(update={"dropout": 0.4})
    dropping = settings.model_copy(update={"regularization": more})
    model = continue_model(checkpoint, run.config.model_copy(update={"model": dropping}))
    assert getattr(model.config, "dropout") == 0.4  # noqa: B009 (known to v3 alone)
    assert same_numbers(model, checkpoint.model)
    wider = run.config.model_copy(update={"model": settings.model_copy(update={"d_model": 64})})
    with pytest.raises(UserError, match=r"model_config.d_model is 64, but .* was trained with 8"):
        continue_model(checkpoint, wider)
    # Their weights have the same shapes, so they would be loaded without a complaint.
    heads = run.config.model_copy(update={"model": settings.model_copy(update={"n_heads": 4})})
    with pytest.raises(UserError, match=r"model_config.n_heads is 4, but .* was trained with 2"):
        continue_model(checkpoint, heads)


def test_embeddings_of_another_width_are_refused_and_other_ones_told(run: Run) -> None:
    checkpoint = load_checkpoint(save_model(run, model_of(run.config), DECISION))
    assert check_fits(checkpoint, run.config, store_of(DIM)) == []
    assert check_fits(checkpoint, run.config, store_of(DIM, "others")) == [
        "the files of data_config.embeddings.model_name"
    ]
    check_same_language_model(checkpoint, checkpoint.config, store_of(DIM))
    with pytest.raises(UserError, match="its files have changed"):
        check_same_language_model(checkpoint, checkpoint.config, store_of(DIM, "others"))
    with pytest.raises(UserError, match=r"takes embeddings of 6 dimensions, but .* have 7; set"):
        check_fits(checkpoint, run.config, store_of(7))
    other = configure(
        data_config={"embeddings": {"layer": 3, "shard_mib": 8}, "max_sequence_length": 500}
    )
    assert check_fits(checkpoint, other, store_of(DIM)) == [
        "data_config.embeddings.layer",
        "data_config.max_sequence_length",
    ]


def test_the_newest_best_model_of_the_first_stage_that_has_one(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"no best_model of pring human BFS under .*finetune or .*pretrain; .*--check",
    ):
        newest_checkpoint(run.config, ("finetune", "pretrain"))
    first = save_model(run, model_of(run.config), DECISION)
    second = save_model(replace(run, model_dir=run.model_dir.parent / "a"), model_of(run.config),
                        DECISION)  # fmt: skip
    assert newest_checkpoint(run.config, ("finetune", "pretrain")) == second
    save_model(run, model_of(run.config), DECISION)
    assert newest_checkpoint(run.config, ("finetune", "pretrain")) == first


def test_a_model_of_another_benchmark_is_not_chosen_by_default(run: Run) -> None:
    """The demo's synthetic model once judged real yeast, because it was the newest."""
    save_model(run, model_of(run.config), DECISION)
    benchmark = {"benchmark": {"species": "yeast"}}
    output = {"output_dir": run.config.run.output_dir}
    other = configure(run_config=output, data_config=benchmark)
    with pytest.raises(UserError, match=r"of pring yeast BFS under .*, only of pring human BFS; "):
        newest_checkpoint(other, ("finetune", "pretrain"))
