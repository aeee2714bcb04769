"""The naive pipeline with which the benchmarks compare: the same model in its simplest form.

- Pairs come in file order, in batches padded to the longest protein of each side.
- Every protein of every pair is read from a separate file (`torch.save`) and encoded again.
- Attention is `nn.MultiheadAttention`, which returns its weights.

The results are those of `common.models.v3`: `NaiveV3` copies that model's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from common.models.base import PairHead
from common.models.v3 import (
    FEED_FORWARD_FACTOR,
    Attention,
    CrossBlock,
    EncoderLayer,
    V3Config,
    V3Model,
)

Module = TypeVar("Module", bound=nn.Module)


class FolderOfProteins:
    """A store of embeddings with one `torch.save` file per protein."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, residues: Tensor) -> None:
        """Write a protein's residues (L, D)."""
        torch.save(residues.clone(), self.folder / f"{name}.pt")

    def load(self, name: str) -> Tensor:
        """Read a protein's residues back."""
        residues: Tensor = torch.load(self.folder / f"{name}.pt")
        return residues


@dataclass(frozen=True)
class NaiveBatch:
    """Both sides of B pairs: (B, L, D) residues, zero where padded, and (B,) lengths."""

    a: Tensor
    lengths_a: Tensor
    b: Tensor
    lengths_b: Tensor

    @property
    def padding(self) -> float:
        """The fraction of positions that are padding."""
        held = self.a.shape[:2].numel() + self.b.shape[:2].numel()
        return 1 - float(self.lengths_a.sum() + self.lengths_b.sum()) / held


def naive_batches(
    proteins: FolderOfProteins, pairs: list[tuple[str, str]], batch_size: int
) -> Iterator[NaiveBatch]:
    """Yield batches of pairs in file order."""
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        sides = [[proteins.load(pair[side]).float() for pair in batch] for side in (0, 1)]
        (a, lengths_a), (b, lengths_b) = (_pad(side) for side in sides)
        yield NaiveBatch(a, lengths_a, b, lengths_b)


def _pad(side: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(residues) for residues in side])
    return nn.utils.rnn.pad_sequence(side, batch_first=True), lengths


class NaiveV3(nn.Module):
    """v3 over padded pairs, with attention weights, holding a copy of a model's parameters."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: V3Model) -> None:
        super().__init__()
        width = model.config.d_model
        self.register_buffer("mean", model.input_mean.clone())
        self.register_buffer("scale", model.input_scale.clone())
        self.projection = _copy(model.projection, nn.Linear(model.config.input_dim, width))
        self.encoder = nn.ModuleList(
            NaiveEncoderLayer(cast(EncoderLayer, layer)) for layer in model.encoder
        )
        self.encoder_norm = _copy(model.encoder_norm, nn.LayerNorm(width))
        self.cls = nn.Parameter(model.cls.detach().clone())
        self.cross = nn.ModuleList(
            NaiveCrossBlock(cast(CrossBlock, block)) for block in model.cross
        )
        self.head_norm = _copy(model.head_norm, nn.LayerNorm(width))
        self.head = _copy(model.head, PairHead(width, cast(V3Config, model.config)))
        self.train(model.training)

    def forward(self, batch: NaiveBatch) -> Tensor:
        """Compute logits (B,)."""
        pad_a, pad_b = _padding(batch.a, batch.lengths_a), _padding(batch.b, batch.lengths_b)
        a, b = self.encode(batch.a, pad_a), self.encode(batch.b, pad_b)
        cls = self.cls.expand(len(a), -1, -1)
        for block in self.cross:
            a, b, cls = block(a, b, cls, pad_a, pad_b)
        logits: Tensor = self.head(self.head_norm(cls[:, 0]))
        return logits

    def encode(self, residues: Tensor, padding: Tensor) -> Tensor:
        """Compute the states (B, L, d) of one side."""
        states = self.projection((residues - self.mean) * self.scale)
        for layer in self.encoder:
            states = layer(states, padding)
        encoded: Tensor = self.encoder_norm(states)
        return encoded


class NaiveEncoderLayer(nn.Module):
    """A padded encoder layer of pre-norm self-attention and feed-forward."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        width = layer.attention.query.in_features
        self.attention_norm = _copy(layer.attention_norm, nn.LayerNorm(width))
        self.attention = _copy_attention(layer.attention)
        self.feed_forward_norm = _copy(layer.feed_forward_norm, nn.LayerNorm(width))
        self.feed_forward = _copy(layer.feed_forward, _feed_forward(width, layer.dropout.p))
        self.dropout = nn.Dropout(layer.dropout.p)

    def forward(self, states: Tensor, padding: Tensor) -> Tensor:
        """Apply one layer to states (B, L, d)."""
        normed = self.attention_norm(states)
        attended = self.attention(normed, normed, normed, key_padding_mask=padding)[0]
        states = states + self.dropout(attended)
        branch: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states + branch


class NaiveCrossBlock(nn.Module):
    """A padded block in which the proteins attend to each other, and the CLS token to both."""

    def __init__(self, block: CrossBlock) -> None:
        super().__init__()
        width = block.cross_attention.query.in_features
        self.cross_norm = _copy(block.cross_norm, nn.LayerNorm(width))
        self.cross_attention = _copy_attention(block.cross_attention)
        self.cls_norm = _copy(block.cls_norm, nn.LayerNorm(width))
        self.sides_norm = _copy(block.sides_norm, nn.LayerNorm(width))
        self.cls_attention = _copy_attention(block.cls_attention)
        self.feed_forward_norm = _copy(block.feed_forward_norm, nn.LayerNorm(width))
        self.feed_forward = _copy(block.feed_forward, _feed_forward(width, block.dropout.p))
        self.dropout = nn.Dropout(block.dropout.p)

    def forward(
        self, a: Tensor, b: Tensor, cls: Tensor, pad_a: Tensor, pad_b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply one block to the sides (B, La, d) and (B, Lb, d) and to CLS (B, 1, d)."""
        na, nb = self.cross_norm(a), self.cross_norm(b)
        read_a = self.cross_attention(na, nb, nb, key_padding_mask=pad_b)[0]
        read_b = self.cross_attention(nb, na, na, key_padding_mask=pad_a)[0]
        a = self._transform(a + self.dropout(read_a))
        b = self._transform(b + self.dropout(read_b))
        both, padding = self.sides_norm(torch.cat([a, b], 1)), torch.cat([pad_a, pad_b], 1)
        query = self.cls_norm(cls)
        read = self.cls_attention(query, both, both, key_padding_mask=padding)[0]
        return a, b, self._transform(cls + self.dropout(read))

    def _transform(self, states: Tensor) -> Tensor:
        branch: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states + branch


def _feed_forward(width: int, dropout: float) -> nn.Sequential:
    inner = FEED_FORWARD_FACTOR * width
    layers = nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width)
    return nn.Sequential(*layers)


def _padding(residues: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(residues.shape[1]) >= lengths[:, None]


def _copy(source: nn.Module, target: Module) -> Module:
    target.load_state_dict(source.state_dict())
    return target


def _copy_attention(source: Attention) -> nn.MultiheadAttention:
    width = source.query.in_features
    target = nn.MultiheadAttention(width, source.heads, batch_first=True)
    projections = (source.query, source.key_value)
    with torch.no_grad():
        target.in_proj_weight.copy_(torch.cat([part.weight for part in projections]))
        target.in_proj_bias.copy_(torch.cat([part.bias for part in projections]))
        target.out_proj.load_state_dict(source.output.state_dict())
    return target
