"""A protein language model small enough for tests, proteins for it, and what gets logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
VOCABULARY = ["<cls>", "<pad>", "<eos>", "<unk>", *LETTERS, "<null_1>", "<mask>"]
DIM = 16
MAX_LENGTH = 100


def save_tiny_esm(directory: Path, seed: int = 0, position_embedding_type: str = "rotary") -> Path:
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
        position_embedding_type=position_embedding_type,
        token_dropout=True,
        # Large enough that states differ plainly from residue to residue.
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        EsmForMaskedLM(config).save_pretrained(directory)
    return directory


def _random_sequences(count: int) -> dict[str, str]:
    rng = np.random.default_rng(47)
    lengths = rng.integers(5, 90, count)
    return {f"P{i}": "".join(rng.choice(list(LETTERS[:20]), n)) for i, n in enumerate(lengths)}


SEQUENCES = _random_sequences(40)


class Log(logging.Handler):
    """The messages of the project's logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def ready(self) -> dict[str, str]:
        """The fields of the last `embeddings_ready`."""
        line = [line for line in self.lines if line.startswith("embeddings_ready | ")][-1]
        return dict(field.split("=") for field in line.split(" | ")[1:])

    def computed(self) -> int:
        return int(self.ready()["computed"])

    def events(self) -> list[str]:
        return [line.split(" | ")[0] for line in self.lines]


@contextmanager
def record_log() -> Iterator[Log]:
    """Listen to the project's logger, however it is set up meanwhile."""
    handler = Log()
    logger = logging.getLogger("relic")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
