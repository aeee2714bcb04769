"""v3: a siamese transformer encoder, then blocks in which the two proteins attend to each other.

    residues (L, D) -> projection -> token dropout -> `encoder_layers` x [self-attention, FF]
    states a, b     -> `cross_attn_layers` x [a attends b, b attends a, FF; CLS attends both, FF]
    CLS             -> MLP head -> logit

Every weight is shared between the two sides and each side attends to the other's state from before
the block, so swapping the proteins swaps the sides and leaves the logit as it was. There are no
positional encodings: the language model's states carry position. Attention is
`scaled_dot_product_attention` throughout; no attention weights are ever materialised by choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import initialization as init

from common.config import ModelConfig
from common.models import register
from common.models.base import (
    INITIALIZER_STD,
    PairHead,
    PairModel,
    PairModelConfig,
    residue_mask,
)

FEED_FORWARD_FACTOR = 4


class V3Config(PairModelConfig):
    """Sizes and regularisation of v3."""

    model_type = "relic-v3"

    d_model: int = 640
    encoder_layers: int = 5
    cross_attn_layers: int = 5
    n_heads: int = 8
    token_dropout: float = 0.0
    cross_attention_dropout: float = 0.0
    stochastic_depth: float = 0.0

    @classmethod
    def own_settings(cls, settings: ModelConfig) -> dict[str, Any]:
        """Depths, width and what is dropped."""
        regularization = settings.regularization
        return {
            "d_model": settings.d_model,
            "encoder_layers": settings.encoder_layers,
            "cross_attn_layers": settings.cross_attn_layers,
            "n_heads": settings.n_heads,
            "token_dropout": regularization.token_dropout,
            "cross_attention_dropout": regularization.cross_attention_dropout,
            "stochastic_depth": regularization.stochastic_depth,
        }


class Attention(nn.Module):
    """Multi-head attention of queries (B, Q, d) over context (B, K, d); returns (B, Q, d)."""

    def __init__(self, width: int, heads: int, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Attend; `mask` (B, K) is True where the context is real, None where all of it is."""
        query = self._split_heads(self.query(queries))
        key, value = (self._split_heads(part) for part in self.key_value(context).chunk(2, -1))
        attended = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output

    def _split_heads(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Sequential):
    """The position-wise two-layer perceptron, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        inner = FEED_FORWARD_FACTOR * width
        super().__init__(
            nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width)
        )


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward; each branch is skipped at `drop_rate`."""

    def __init__(self, config: V3Config, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config.d_model, config.n_heads)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """One layer over (U, L, d)."""
        normed = self.attention_norm(states)
        states = states + self._survive(self.attention(normed, normed, mask))
        branch = self.feed_forward(self.feed_forward_norm(states))
        return states + self._survive(branch)

    def _survive(self, branch: Tensor) -> Tensor:
        """Dropout, then stochastic depth: a protein keeps the branch or skips all of it."""
        branch = self.dropout(branch)
        if not self.training or self.drop_rate == 0.0:
            return branch
        keep = 1.0 - self.drop_rate
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * torch.empty(shape, device=branch.device).bernoulli_(keep).to(branch) / keep


class CrossBlock(nn.Module):
    """Each side attends to the other; then the CLS token reads both."""

    def __init__(self, config: V3Config) -> None:
        super().__init__()
        width = config.d_model
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, config.n_heads, config.cross_attention_dropout)
        self.cls_norm = nn.LayerNorm(width)
        self.sides_norm = nn.LayerNorm(width)
        self.cls_attention = Attention(width, config.n_heads, config.cross_attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, a: Tensor, b: Tensor, cls: Tensor, mask_a: Tensor | None, mask_b: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One block over sides (B, La, d) and (B, Lb, d) and the CLS state (B, 1, d)."""
        normed_a, normed_b = self.cross_norm(a), self.cross_norm(b)
        a = self._transform(a + self.dropout(self.cross_attention(normed_a, normed_b, mask_b)))
        b = self._transform(b + self.dropout(self.cross_attention(normed_b, normed_a, mask_a)))
        both = self.sides_norm(torch.cat([a, b], dim=1))
        read = self.cls_attention(self.cls_norm(cls), both, join_masks(a, b, mask_a, mask_b))
        return a, b, self._transform(cls + self.dropout(read))

    def _transform(self, states: Tensor) -> Tensor:
        branch = self.feed_forward(self.feed_forward_norm(states))
        transformed: Tensor = states + self.dropout(branch)
        return transformed


@register("v3")
class V3Model(PairModel):
    """The siamese cross-attention model."""

    config_class = V3Config

    def __init__(self, config: V3Config) -> None:
        super().__init__(config)
        depth = config.encoder_layers
        rates = [config.stochastic_depth * (layer + 1) / depth for layer in range(depth)]
        self.projection = nn.Linear(config.input_dim, config.d_model)
        self.encoder = nn.ModuleList(EncoderLayer(config, rate) for rate in rates)
        self.encoder_norm = nn.LayerNorm(config.d_model)
        self.cls = nn.Parameter(torch.empty(1, 1, config.d_model))
        self.cross = nn.ModuleList(CrossBlock(config) for _ in range(config.cross_attn_layers))
        self.head_norm = nn.LayerNorm(config.d_model)
        self.head = PairHead(config.d_model, config)
        self.post_init()  # type: ignore[no-untyped-call]

    def encode(self, proteins: Tensor, lengths: Tensor) -> Tensor:
        """States (U, L, d_model) of padded residue embeddings (U, L, D)."""
        states = self._drop_tokens(self.projection(self.standardize(proteins)))
        mask = residue_mask(lengths, states.shape[1])
        for layer in self.encoder:
            states = layer(states, mask)
        encoded: Tensor = self.encoder_norm(states)
        return encoded

    def interact(
        self, states_a: Tensor, lengths_a: Tensor, states_b: Tensor, lengths_b: Tensor
    ) -> Tensor:
        """Logits (B,) of B pairs of encoded proteins."""
        mask_a = residue_mask(lengths_a, states_a.shape[1])
        mask_b = residue_mask(lengths_b, states_b.shape[1])
        a, b, cls = states_a, states_b, self.cls.expand(states_a.shape[0], -1, -1)
        for block in self.cross:
            a, b, cls = block(a, b, cls, mask_a, mask_b)
        logits: Tensor = self.head(self.head_norm(cls[:, 0]))
        return logits

    def _drop_tokens(self, states: Tensor) -> Tensor:
        """Blank whole residues at random, so that no single one can be relied on."""
        rate = self.config.token_dropout
        if not self.training or rate == 0.0:
            return states
        kept = torch.empty(states.shape[:2], device=states.device).bernoulli_(1.0 - rate)
        return states * kept[..., None].to(states)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, V3Model):
            init.trunc_normal_(module.cls, std=INITIALIZER_STD)


def join_masks(a: Tensor, b: Tensor, mask_a: Tensor | None, mask_b: Tensor | None) -> Tensor | None:
    """The mask (B, La + Lb) over both sides laid end to end; None where neither has padding."""
    if mask_a is None and mask_b is None:
        return None
    parts = [
        torch.ones(side.shape[:2], dtype=torch.bool, device=side.device) if mask is None else mask
        for side, mask in ((a, mask_a), (b, mask_b))
    ]
    return torch.cat(parts, dim=1)
