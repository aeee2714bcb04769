"""A protein language model small enough for tests, saved like a real ESM-2 checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

VOCABULARY = (
    "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
).split()
DIM = 16


def save_tiny_esm(directory: Path, seed: int = 0) -> Path:
    """Save a randomly initialised ESM-2 of 2 layers, 16 wide, that takes 126 residues."""
    directory.mkdir(parents=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    EsmTokenizer(str(vocabulary)).save_pretrained(directory)
    config = EsmConfig(
        vocab_size=len(VOCABULARY),
        pad_token_id=VOCABULARY.index("<pad>"),
        mask_token_id=VOCABULARY.index("<mask>"),
        hidden_size=DIM,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=130,
        position_embedding_type="rotary",
        token_dropout=True,
        # Large enough that states differ plainly from residue to residue.
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        EsmForMaskedLM(config).save_pretrained(directory)
    return directory
