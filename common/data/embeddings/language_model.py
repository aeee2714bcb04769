"""Runs a protein language model that computes one state per residue.

Any transformers encoder whose tokenizer has one token per residue can be used (ESM-2, ESM-C, or a
local directory). Models that would silently compute wrong states are refused: checkpoints that lack
parameters, tokenizers whose tokens are not residues, and models in which a residue's state does not
depend on the whole sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from common.config_data import Layer
from common.data.embeddings.model_files import KEY, ModelFiles
from common.errors import UserError

STANDARD_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# Parameters that do not affect residue states, and constants that the model computes itself.
MAY_BE_MISSING = ("pooler.", "contact_head.", "inv_freq", "position_ids")


class LanguageModel:
    """A loaded protein language model with its tokenizer, created by `load`.

    Args:
        model: A transformers encoder, in eval mode on its device.
        tokens: Converts sequences to token ids.
        layer: The index into the hidden states; -1 is the last hidden state, and `thirds` joins the
            states after a third, two thirds and all of the layers.

    Attributes:
        dim: The width of a residue's state.
        special_tokens: The number of tokens of a sequence in addition to its residues.
    """

    def __init__(self, model: torch.nn.Module, tokens: ResidueTokens, layer: Layer) -> None:
        self._model = model
        self._tokens = tokens
        self._layers = [layer] if isinstance(layer, int) else _thirds(_depth(model))
        self._device = next(model.parameters()).device
        self.special_tokens = tokens.special_tokens
        self.dim = self.residue_states([STANDARD_RESIDUES])[0].shape[1]

    @classmethod
    def load(cls, files: ModelFiles, layer: Layer, device: torch.device) -> Self:
        """Load a protein language model from its files onto a device.

        Raises:
            UserError: The model is not an encoder, its checkpoint lacks parameters, its tokenizer
                does not have one token per residue, or the layer does not exist.
        """
        _refuse_other_than_encoder(files)
        model = _load_encoder(files)
        if isinstance(layer, int) and layer != -1:
            _check_layer(layer, _depth(model))
        with _explain_loading(files.directory):
            tokenizer = AutoTokenizer.from_pretrained(files.directory, trust_remote_code=False)
        tokens = ResidueTokens(tokenizer, str(files.directory))
        return cls(model.eval().to(device), tokens, layer)

    @torch.inference_mode()
    def residue_states(self, sequences: Sequence[str]) -> list[Tensor]:
        """Compute the residue states of upper-case sequences in one padded batch.

        Returns:
            For each sequence, a (length, dim) tensor on the model's device, without special tokens.
        """
        ids, mask = self._tokens.encode(sequences)
        # States are always computed in float32, so that runs of any precision can share a cache.
        with torch.autocast(self._device.type, enabled=False):
            output = self._model(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                output_hidden_states=self._layers != [-1],
            )
        states = torch.cat(
            [
                output.last_hidden_state if layer == -1 else output.hidden_states[layer]
                for layer in self._layers
            ],
            dim=-1,
        )
        if states.shape[:2] != ids.shape:
            raise UserError(
                f"the model of {KEY} does not compute one state per residue (states of shape"
                f" {tuple(states.shape)} for {tuple(ids.shape)} tokens); choose an encoder such as"
                " ESM-2"
            )
        first = len(self._tokens.before)
        return [states[row, first : first + len(text)] for row, text in enumerate(sequences)]


class ResidueTokens:
    """Converts protein sequences to token ids, with one token per residue.

    Letters are looked up one at a time, because tokenizers join unknown letters: `EsmTokenizer`
    converts the two unknown residues `JJ` to a single token.

    Args:
        tokenizer: A transformers tokenizer.
        name: The name of the tokenizer in messages.

    Raises:
        UserError: The tokenizer does not have a separate token for every residue.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._letters: dict[str, int] = {}
        encoded = tokenizer(STANDARD_RESIDUES, return_special_tokens_mask=True)
        ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
        whole = [token for token, is_special in zip(ids, special, strict=True) if not is_special]
        if whole != [self._letter(letter) for letter in STANDARD_RESIDUES]:
            self._refuse(f"{len(whole)} tokens for {len(STANDARD_RESIDUES)} residues")
        first = special.index(0)
        self.before, self._after = ids[:first], ids[first + len(whole) :]
        self.special_tokens = len(self.before) + len(self._after)
        self._padding = tokenizer.pad_token_id or 0

    def encode(self, sequences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask, both (batch, longest), padded on the right."""
        width = max(map(len, sequences)) + self.special_tokens
        ids = torch.full((len(sequences), width), self._padding)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            tokens = [*self.before, *map(self._letter, sequence), *self._after]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return ids, mask

    def _letter(self, letter: str) -> int:
        if letter not in self._letters:
            encoded = self._tokenizer(letter, add_special_tokens=False)["input_ids"]
            if len(encoded) != 1:
                self._refuse(f"{len(encoded)} tokens for the residue '{letter}'")
            self._letters[letter] = encoded[0]
        return self._letters[letter]

    def _refuse(self, reason: str) -> None:
        raise UserError(
            f"the tokenizer of {self._name} does not have one token per residue ({reason}); set"
            f" {KEY} to a per-residue encoder such as ESM-2"
        )


def _refuse_other_than_encoder(files: ModelFiles) -> None:
    config = files.config()
    kind = config.get("model_type")
    left_to_right = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    left_to_right = left_to_right and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.get("is_encoder_decoder") or config.get("is_decoder") or left_to_right:
        raise UserError(
            f"the model in {files.directory} (model_type '{kind}') is not an encoder, so residue"
            f" states do not depend on the whole sequence; set {KEY} to an encoder such as ESM-2"
        )


def _load_encoder(files: ModelFiles) -> Any:
    with _explain_loading(files.directory):
        # The model is loaded in float32, whatever the precision of the checkpoint or the run.
        model, report = AutoModel.from_pretrained(
            files.directory,
            dtype=torch.float32,
            output_loading_info=True,
            # Otherwise the library asks on the terminal whether to run the directory's code.
            trust_remote_code=False,
        )
    missing = sorted(
        key
        for key in report["missing_keys"]
        if not any(harmless in key for harmless in MAY_BE_MISSING)
    )
    if missing:
        raise UserError(
            f"the checkpoint {files.directory} lacks {len(missing)} of the model's parameters"
            f" ({', '.join(missing[:3])}, …), which would be random; set {KEY} to a complete"
            " checkpoint"
        )
    return model


@contextmanager
def _explain_loading(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file can make any part of the library fail
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"transformers cannot load {directory} ({type(error).__name__}: {reason}); set"
            f" {KEY} to a protein encoder such as facebook/esm2_t33_650M_UR50D"
        ) from None


def _depth(model: Any) -> int:
    """Return the number of layers of an encoder."""
    depth: int = model.config.num_hidden_layers
    return depth


def _thirds(depth: int) -> list[int]:
    """Return the indices of the hidden states after a third, two thirds and all of the layers."""
    return [math.ceil(depth / 3), math.ceil(depth * 2 / 3), -1]


def _check_layer(layer: int, layers: int) -> None:
    if not -layers - 1 <= layer <= layers:
        raise UserError(
            f"data_config.embeddings.layer is {layer}, but the model's hidden states"
            f" are numbered 0 to {layers} (or {-layers - 1} to -1); choose one of these numbers, or"
            " thirds"
        )
