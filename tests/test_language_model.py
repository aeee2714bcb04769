"""The model is found, identified and run so that every residue gets the state it should."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import (
    AutoTokenizer,
    EsmcConfig,
    EsmcForMaskedLM,
    EsmcTokenizer,
    EsmForMaskedLM,
    PreTrainedTokenizerFast,
)

from common.config_data import EmbeddingsConfig, Layer
from common.data.embeddings import language_model, model_files
from common.data.embeddings.language_model import LanguageModel, ResidueTokens
from common.data.embeddings.model_files import (
    ModelFiles,
    check_residue_limit,
    hash_model,
    locate_model,
    residue_limit,
)
from common.errors import UserError
from common.files import hash_file
from tests.tiny_esm import DIM, VOCABULARY, save_tiny_esm

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_esm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The same checkpoint, to be damaged."""
    return shutil.copytree(tiny, tmp_path / "copy")


def load(directory: Path, layer: Layer = -1) -> LanguageModel:
    files = locate_model(EmbeddingsConfig(model_name=str(directory)))
    return LanguageModel.load(files, layer, CPU)


@torch.inference_mode()
def reference_states(directory: Path, sequence: str) -> tuple[Tensor, ...]:
    """All hidden states (length, dim) of one sequence alone, with the ids written out by hand."""
    model = EsmForMaskedLM.from_pretrained(directory).eval().esm
    ids = torch.tensor([[VOCABULARY.index(t) for t in ("<cls>", *sequence, "<eos>")]])
    output = model(ids, torch.ones_like(ids), output_hidden_states=True)
    return tuple(states[0, 1:-1] for states in output.hidden_states)


def change_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ------------------------------------------------------------------------- residue states


@pytest.mark.parametrize("layer", [-1, 0, 1, -2])
def test_states_in_a_padded_batch_are_those_of_the_sequence_alone(tiny: Path, layer: int) -> None:
    sequences = ["MKTAYIAKQRQISFVKSHFSRQ", "W", "XBUZO"]
    model = load(tiny, layer)
    assert (model.dim, model.special_tokens) == (DIM, 2)
    for sequence, states in zip(sequences, model.residue_states(sequences), strict=True):
        expected = reference_states(tiny, sequence)[layer]
        assert states.shape == (len(sequence), DIM)
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_the_last_layer_is_normalised_and_the_inner_ones_are_not(tiny: Path) -> None:
    (last,) = load(tiny).residue_states(["MKTAY"])
    (inner,) = load(tiny, 1).residue_states(["MKTAY"])
    torch.testing.assert_close(last.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    assert inner.mean(1).abs().max() > 0.01


@pytest.mark.parametrize(("depth", "joined"), [(1, (1, 1)), (2, (1, 2)), (33, (11, 22))])
def test_thirds_are_evenly_spaced(depth: int, joined: tuple[int, int]) -> None:
    assert language_model._thirds(depth) == [*joined, -1]


def test_thirds_join_the_states_of_three_layers(tiny: Path) -> None:
    model, sequence = load(tiny, "thirds"), "MKTAYIAKQR"
    (states,) = model.residue_states([sequence])
    first, second, last = (reference_states(tiny, sequence)[layer] for layer in (1, 2, 2))
    assert model.dim == 3 * DIM
    torch.testing.assert_close(
        states, torch.cat([first, second, last], dim=1), atol=1e-5, rtol=1e-5
    )


def test_unknown_residues_in_a_row_stay_separate(tiny: Path) -> None:
    """EsmTokenizer makes one <unk> of `JJ`, which shifted every residue after it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    assert len(tokenizer("AJJC")["input_ids"]) == 5
    ids, mask = ResidueTokens(tokenizer, "tiny").encode(["AJJC", "M"])
    expected = [["<cls>", "A", "<unk>", "<unk>", "C", "<eos>"], ["<cls>", "M", "<eos>"]]
    assert ids[0].tolist() == [VOCABULARY.index(token) for token in expected[0]]
    assert ids[1, :3].tolist() == [VOCABULARY.index(token) for token in expected[1]]
    assert ids[1, 3:].unique().tolist() == [VOCABULARY.index("<pad>")]
    assert mask.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]


def test_esm_c_works_too(tmp_path: Path) -> None:
    """And with sequences longer than its positions: they are rotary."""
    config = EsmcConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    reference = EsmcForMaskedLM(config).eval()
    reference.save_pretrained(tmp_path)
    tokenizer = EsmcTokenizer()
    tokenizer.save_pretrained(tmp_path)
    sequence = "MKTAYJJIAK"
    with torch.inference_mode():
        encoded = tokenizer(sequence, return_tensors="pt")
        expected = reference.esmc(**encoded).last_hidden_state[0, 1:-1]
    check_residue_limit(locate_model(EmbeddingsConfig(model_name=str(tmp_path))), "ESM C", 16)
    states, _ = load(tmp_path).residue_states([sequence, "MKTAYIAKQRQISFVK"])
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


# ------------------------------------------------------------------------- what is refused


def test_a_checkpoint_that_lacks_parameters_is_refused(copy: Path) -> None:
    """Transformers fills them with random numbers and says so in a table at most."""
    path = copy / "model.safetensors"
    weights = load_file(path)
    kept = {key: value for key, value in weights.items() if "layer.1.output" not in key}
    assert len(kept) == len(weights) - 2
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 2 of .*layer\.1\.output\.dense.*model_name"):
        load(copy)


def test_heads_may_be_missing(copy: Path, tiny: Path) -> None:
    path = copy / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if "contact" not in k and "lm_head" not in k}
    save_file(kept, path, metadata={"format": "pt"})
    assert torch.equal(load(copy).residue_states(["MKT"])[0], load(tiny).residue_states(["MKT"])[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "gpt2"}, "not an encoder"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "not an encoder"),
        ({"is_decoder": True}, "not an encoder"),
        ({"model_type": "nobody-knows"}, "cannot load"),
        ({"hidden_size": 32}, "cannot load"),
    ],
)
def test_other_than_a_matching_encoder_is_refused(
    copy: Path, changes: dict[str, object], reason: str
) -> None:
    change_config(copy, **changes)
    with pytest.raises(UserError, match=f"{reason}.*data_config.embeddings.model_name"):
        load(copy)


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt"])
def test_damaged_files_are_reported_in_a_sentence(copy: Path, file: str) -> None:
    (copy / file).write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match=r"data_config\.embeddings\.model_name") as raised:
        load(copy)
    assert str(copy) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_joins_residues_is_refused() -> None:
    letters = ["<unk>", *"ACDEFGHIKLMNPQRSTVWY", "AC"]
    vocabulary = {token: number for number, token in enumerate(letters)}
    joining = Tokenizer(models.BPE(vocabulary, [("A", "C")], unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=joining)
    with pytest.raises(UserError, match=r"19 tokens for 20 residues.*model_name"):
        ResidueTokens(tokenizer, "a BPE")


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist_is_refused(tiny: Path, layer: int) -> None:
    with pytest.raises(UserError, match=f"embeddings.layer is {layer}.* 0 to 2 "):
        load(tiny, layer)


# ------------------------------------------------------------------------- files and limits


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "esm", "max_position_embeddings": 1026, "pad_token_id": 1}, 1022),
        ({"model_type": "esmc", "max_position_embeddings": 2048, "pad_token_id": 1}, 2046),
        ({"model_type": "t5"}, None),
    ],
)
def test_residue_limit(config: dict[str, object], limit: int | None) -> None:
    """ESM-2's limit is the 1022 that its authors give."""
    assert residue_limit(config) == limit


def test_the_limit_is_what_absolute_positions_take(tmp_path: Path) -> None:
    """One residue more and the position table of an ESM-1b-like model would be overrun."""
    directory = save_tiny_esm(tmp_path / "absolute", position_embedding_type="absolute")
    limit = residue_limit(json.loads((directory / "config.json").read_text()))
    assert limit == 126
    model = load(directory)
    assert len(model.residue_states(["M" * limit])[0]) == limit
    with pytest.raises(IndexError):
        model.residue_states(["M" * (limit + 1)])


def test_a_directory_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors.*data_config\.embeddings\.model_name"):
        locate_model(EmbeddingsConfig(model_name=str(copy)))


def test_sharded_weights_are_found_and_must_be_complete(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    settings = EmbeddingsConfig(model_name=str(copy))
    with pytest.raises(UserError, match="contains none of"):
        locate_model(settings)
    (copy / "model-2.safetensors").write_bytes(b"")
    assert [path.name for path in locate_model(settings).weights] == [
        "model-00001-of-00002.safetensors",
        "model-2.safetensors",
    ]


@pytest.mark.parametrize("name", ["acme/absent", "not/a/hub/name", "/no/such/directory"])
def test_a_model_that_cannot_be_found_is_reported_in_a_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"^data_config\.embeddings\.model_name '") as raised:
        locate_model(EmbeddingsConfig(model_name=name, revision="v7"))
    assert f"'{name}'" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_downloaded_model_is_found_without_the_network(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(tiny, snapshot)
    (tmp_path / "models--acme--tiny" / "refs").mkdir()
    (tmp_path / "models--acme--tiny" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(model_files, "_download", lambda settings: pytest.fail("went online"))
    settings = EmbeddingsConfig(model_name="acme/tiny")
    files = locate_model(settings)
    assert (files.directory, files.weights) == (snapshot, (snapshot / "model.safetensors",))
    check_residue_limit(files, settings.model_name, 127)
    change_config(snapshot, position_embedding_type="absolute")
    with pytest.raises(UserError, match="at most 126"):
        check_residue_limit(files, settings.model_name, 127)
    # An interrupted download: the tokenizer has not arrived.
    (snapshot / "vocab.txt").unlink()
    (snapshot / "tokenizer_config.json").unlink()
    downloaded = ModelFiles(tmp_path, ())
    monkeypatch.setattr(model_files, "_download", lambda settings: downloaded)
    assert locate_model(settings) is downloaded


# ------------------------------------------------------------------------- identity


def model_hash(directory: Path, cache: Path) -> str:
    return hash_model(locate_model(EmbeddingsConfig(model_name=str(directory))), cache)


def test_the_hash_follows_the_content_and_not_the_place(copy: Path, tiny: Path) -> None:
    cache = copy.parent / "cache"
    original = model_hash(tiny, cache)
    assert model_hash(copy, cache) == original
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed = model_hash(copy, cache)
    change_config(copy, token_dropout=False)
    assert len({original, changed, model_hash(copy, cache)}) == 3


def test_weights_are_hashed_once(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = model_hash(copy, cache)
    hashed: list[str] = []

    def record(path: Path) -> str:
        hashed.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(model_files, "hash_file", record)
    assert model_hash(copy, cache) == first
    assert "config.json" in hashed
    assert "model.safetensors" not in hashed
    unfinished = cache / ".model_hashes.json.0123.tmp"  # left by a killed run
    unfinished.touch()
    (cache / "model_hashes.json").write_text("not JSON")
    assert model_hash(copy, cache) == first
    assert "model.safetensors" in hashed
    assert not unfinished.exists()
