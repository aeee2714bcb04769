"""Trains the small protein language model of the synthetic benchmark.

The model is a tiny version of the ESM model in transformers, with ESM-2's tokenizer and vocabulary.
Training masks residues, which the model learns to predict. The saved directory can be loaded like
any published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

from common.long_work import LongWork

# ESM-2's vocabulary, in ESM-2's order.
_TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
_CLS, _PAD, _EOS, _MASK = (_TOKENS.index(f"<{name}>") for name in ("cls", "pad", "eos", "mask"))
_FIRST_RESIDUE, _RESIDUES = 4, 20

# Measured on the default benchmark: initial weights with a standard deviation of 0.06 instead of
# 0.02, and masking 25 % instead of 15 %, halve the steps until the states distinguish families.
_INITIAL_DEVIATION = 0.06
_MASKED_SHARE = 0.25
_CROP = 60
_BATCH = 32
_PEAK_LR = 4e-3


def build_language_model(
    sequences: Sequence[str], directory: Path, steps: int, seed: int
) -> list[float]:
    """Train a small ESM model on sequences, and save model and tokenizer as a checkpoint.

    The state of torch's global random generator is not changed. A seed gives the same weights on
    the same machine with the same number of threads; on other machines, rounding may differ.

    Args:
        sequences: The training sequences, in upper case.
        directory: The directory of the checkpoint; created if it does not exist.
        steps: Optimizer updates, each on 32 crops of 60 residues.
        seed: The seed of the weights, the crops and the masks.

    Returns:
        The loss of every step, in nats per masked residue.
    """
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(_TOKENS), encoding="utf-8")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = EsmForMaskedLM(_configure())
        losses = _train(model, [_tokenize(sequence) for sequence in sequences], steps, seed)
    model.eval().save_pretrained(directory)
    EsmTokenizer(vocab_file=str(vocabulary)).save_pretrained(directory)
    return losses


def _configure() -> EsmConfig:
    return EsmConfig(
        vocab_size=len(_TOKENS),
        pad_token_id=_PAD,
        mask_token_id=_MASK,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=_INITIAL_DEVIATION,
        position_embedding_type="rotary",
        token_dropout=False,
    )


def _tokenize(sequence: str) -> Tensor:
    return torch.tensor([_TOKENS.index(residue) for residue in sequence])


def _train(
    model: EsmForMaskedLM, sequences: Sequence[Tensor], steps: int, seed: int
) -> list[float]:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK_LR, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _PEAK_LR, total_steps=steps + 1, pct_start=0.15
    )
    losses = []
    model.train()
    with LongWork("training the demo's language model", steps, "steps") as work:
        for _ in range(steps):
            loss = _masked_loss(model, _crop_batch(sequences, rng))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            work.advance()
    return losses


def _crop_batch(sequences: Sequence[Tensor], rng: np.random.Generator) -> Tensor:
    """Return token ids (batch, longest + 2) of random crops of sequences, padded on the right."""
    ids = torch.full((_BATCH, _CROP + 2), _PAD)
    ids[:, 0] = _CLS
    for row, chosen in enumerate(rng.integers(len(sequences), size=_BATCH)):
        whole = sequences[chosen]
        start = int(rng.integers(max(1, len(whole) - _CROP + 1)))
        crop = whole[start : start + _CROP]
        ids[row, 1 : len(crop) + 1] = crop
        ids[row, len(crop) + 1] = _EOS
    return ids


def _masked_loss(model: EsmForMaskedLM, ids: Tensor) -> Tensor:
    """Return the mean cross-entropy of hidden residues (80 % masked, 10 % random, 10 % kept)."""
    hidden = (torch.rand(ids.shape) < _MASKED_SHARE) & (ids >= _FIRST_RESIDUE)
    lot = torch.rand(ids.shape)
    seen = ids.masked_fill(hidden & (lot < 0.8), _MASK)
    other = torch.randint(_FIRST_RESIDUE, _FIRST_RESIDUE + _RESIDUES, ids.shape)
    seen = torch.where(hidden & (lot >= 0.9), other, seen)
    states = model.esm(seen, attention_mask=(ids != _PAD).long()).last_hidden_state
    # The head is applied only to the residues to predict, which is a quarter of the work.
    return cross_entropy(model.lm_head(states[hidden]), ids[hidden])
