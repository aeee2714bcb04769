"""v3: a siamese transformer encoder, then blocks in which the two proteins attend to each other.

    residues (L, D) -> projection -> token dropout -> `encoder_layers` x [self-attention, FF]
    states a, b     -> `cross_attn_layers` x [a attends b, b attends a, FF; CLS attends both, FF]
    CLS             -> MLP head -> logit

Every weight is shared between the two sides and each side attends to the other's state from before
the block, so swapping the proteins swaps the sides and leaves the logit as it was. There are no
positional encodings: the language model's states carry position.

Nothing is padded: proteins, and the two sides of a pair, are rows laid end to end (`ragged.py`).
What the first block needs of one protein alone, it takes from `prepare`.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import initialization as init

from common.config import ModelConfig
from common.models import register
from common.models.base import (
    INITIALIZER_STD,
    PairHead,
    PairModel,
    PairModelConfig,
)
from common.models.dropout import Dropout
from common.models.ragged import (
    HostInts,
    Layout,
    Links,
    Ragged,
    attend,
    cut,
    takes_all_lengths_at_once,
)

FEED_FORWARD_FACTOR = 4
CPU_CELLS = 2**19


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
    """Multi-head attention over rows of width d."""

    def __init__(self, width: int, heads: int, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def project(self, states: Tensor) -> Tensor:
        """Queries, keys and values side by side, (R, 3 d), of rows (R, d)."""
        weight = torch.cat([self.query.weight, self.key_value.weight])
        return linear(states, weight, torch.cat([self.query.bias, self.key_value.bias]))

    def split_heads(self, projected: Tensor, layout: Layout) -> tuple[Ragged, Ragged]:
        """What `project` gave, as queries (R, heads, w) and contexts (R, 2, heads, w)."""
        query, context = projected.unflatten(1, (3, self.heads, -1)).split((1, 2), dim=1)
        return Ragged(query[:, 0], layout), Ragged(context, layout)

    def forward(self, queries: Ragged, contexts: Ragged, links: Links) -> Tensor:
        """What the queries of each link read, (R', d), link after link."""
        attended = attend(queries, contexts, links, self._dropout)
        output: Tensor = self.output(attended.flatten(1))
        return output

    def read(self, states: Tensor, contexts: Ragged) -> Tensor:
        """What one query state each, (B, d), reads from B sequences of rows (R, d)."""
        query = self.query(states).unflatten(1, (self.heads, -1))
        if takes_all_lengths_at_once(query, self._dropout):
            attended = self._read_projected(query, contexts)
        else:
            attended = self._read_absorbed(query, contexts)
        output: Tensor = self.output(attended)
        return output

    def _read_projected(self, query: Tensor, contexts: Ragged) -> Tensor:
        context = self.key_value(contexts.rows).unflatten(1, (2, self.heads, -1))
        count = len(query)
        queries = Ragged(query, Layout((1,) * count, query.device))
        layout = Ragged(context, contexts.layout)
        return attend(queries, layout, Links.to_itself(count)).flatten(1)

    def _read_absorbed(self, query: Tensor, contexts: Ragged) -> Tensor:
        """The same without projecting the rows: for one query it is cheaper to project the query.

        q · (W x + b) = (Wᵀ q) · x + q · b, and the last term is the same for every row, so softmax
        does not see it; a weighted mean of W x + b is W times the weighted mean of x, plus b.
        """
        count, heads, width = query.shape
        key, value = self.key_value.weight.unflatten(0, (2, heads, width)).unbind(0)
        # Every head is one query of full width; the rows are keys and values at once.
        queries = torch.einsum("bhw,hwd->bhd", query, key).flatten(0, 1)[:, None]
        rows = contexts.rows[:, None, None].expand(-1, 2, -1, -1)
        means = attend(
            Ragged(queries, Layout((heads,) * count, query.device)),
            Ragged(rows, contexts.layout),
            Links.to_itself(count),
            self._dropout,
            scale=width**-0.5,
        )
        means = means.view(count, heads, -1)
        read = torch.einsum("bhd,hwd->bhw", means, value).flatten(1)
        return read + self.key_value.bias[heads * width :]

    @property
    def _dropout(self) -> float:
        return self.attention_dropout if self.training else 0.0


class FeedForward(nn.Sequential):
    """The position-wise two-layer perceptron, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        inner = FEED_FORWARD_FACTOR * width
        super().__init__(
            nn.Linear(width, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, width)
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
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, layout: Layout) -> Tensor:
        """One layer over the rows (R, d) of U proteins."""
        projected = self.attention.project(self.attention_norm(states))
        themselves = Links.to_itself(len(layout.lengths))
        attended = self.attention(*self.attention.split_heads(projected, layout), themselves)
        states = states + self._survive(attended, layout)
        branch = self.feed_forward(self.feed_forward_norm(states))
        return states + self._survive(branch, layout)

    def _survive(self, branch: Tensor, layout: Layout) -> Tensor:
        """Dropout, then stochastic depth: a protein keeps the branch or skips all of it."""
        branch = self.dropout(branch)
        if not self.training or self.drop_rate == 0.0:
            return branch
        keep = 1.0 - self.drop_rate
        kept = torch.empty(len(layout.lengths), device=branch.device).bernoulli_(keep)
        return branch * (kept / keep).to(branch)[layout.sequence_of_row, None]


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
        self.dropout = Dropout(config.dropout)

    def project(self, states: Tensor) -> Tensor:
        """What the block needs of one side alone, (R, 3 d): its queries, keys and values."""
        return self.cross_attention.project(self.cross_norm(states))

    def forward(
        self, sides: Ragged, cls: Tensor, queries: Ragged, contexts: Ragged, links: Links
    ) -> tuple[Tensor, Tensor]:
        """One block over B pairs.

        Args:
            sides: The 2 B sides, (R, d), those of a pair next to each other.
            cls: (B, d).
            queries: Heads of sequences that hold the sides' projections.
            contexts: Likewise.
            links: For each side, which sequence is its own and which its partner's.
        """
        attended = self.cross_attention(queries, contexts, links)
        rows = self._transform(sides.rows + self.dropout(attended))
        both = Ragged(self.sides_norm(rows), sides.layout.in_twos)
        read = self.cls_attention.read(self.cls_norm(cls), both)
        return rows, self._transform(cls + self.dropout(read))

    def _transform(self, states: Tensor) -> Tensor:
        branch = self.feed_forward(self.feed_forward_norm(states))
        transformed: Tensor = states + self.dropout(branch)
        return transformed


@register("v3")
class V3Model(PairModel):
    """The siamese cross-attention model."""

    config_class = V3Config
    row_wise = (FeedForward,)

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

    def encode_rows(self, residues: Tensor, lengths: HostInts) -> Tensor:
        """State rows (R, d_model) of U proteins' residues (R, D)."""
        pieces = cut(lengths, rows_at_a_time(residues.device, self.config.d_model))
        sizes = [int(lengths[piece].sum()) for piece in pieces]
        encoded = [
            self._encode(rows, Layout(tuple(lengths[piece].tolist()), rows.device))
            for rows, piece in zip(residues.split(sizes), pieces, strict=True)
        ]
        return torch.cat(encoded)

    def prepare(self, rows: Tensor) -> Tensor:
        """States and the first block's queries, keys and values: (R, 4 d_model)."""
        return torch.cat([rows, self._blocks[0].project(rows)], dim=1)

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Logits (B,) of pairs of the proteins that prepared rows (R, 4 d_model) hold."""
        layout = Layout(tuple(lengths.tolist()), rows.device)
        width = self.config.d_model
        states, projected = rows.split((width, 3 * width), dim=1)
        proteins = Ragged(states, layout)
        heads = self._blocks[0].cross_attention.split_heads(projected, layout)
        pieces = cut(lengths[pairs].sum(1), rows_at_a_time(rows.device, width))
        return torch.cat([self._interact(proteins, *heads, pairs[piece]) for piece in pieces])

    @property
    def _blocks(self) -> list[CrossBlock]:
        return [cast(CrossBlock, block) for block in self.cross]

    def _encode(self, residues: Tensor, layout: Layout) -> Tensor:
        states = self._drop_tokens(self.projection(self.standardize(residues)))
        for layer in self.encoder:
            states = layer(states, layout)
        encoded: Tensor = self.encoder_norm(states)
        return encoded

    def _interact(
        self, proteins: Ragged, queries: Ragged, contexts: Ragged, pairs: HostInts
    ) -> Tensor:
        own, partner = tuple(pairs.ravel().tolist()), tuple(pairs[:, ::-1].ravel().tolist())
        sides, cls = proteins.take(own), self.cls[0].expand(len(pairs), -1)
        links = Links(own, partner)
        for number, block in enumerate(self._blocks):
            if number > 0:
                queries, contexts = block.cross_attention.split_heads(
                    block.project(sides.rows), sides.layout
                )
                links = Links.across(len(pairs))
            rows, cls = block(sides, cls, queries, contexts, links)
            sides = Ragged(rows, sides.layout)
        logits: Tensor = self.head(self.head_norm(cls))
        return logits

    def _drop_tokens(self, states: Tensor) -> Tensor:
        """Blank whole residues at random, so that no single one can be relied on."""
        rate = self.config.token_dropout
        if not self.training or rate == 0.0:
            return states
        kept = torch.empty(len(states), device=states.device).bernoulli_(1.0 - rate)
        return states * kept[:, None].to(states)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, V3Model):
            init.trunc_normal_(module.cls, std=INITIALIZER_STD)


def rows_at_a_time(device: torch.device, width: int) -> int:
    """How many rows of a width to take through the layers together.

    On a CPU few enough to stay in its caches, where a layer finds what the last one wrote; any
    other device takes all there are.
    """
    return max(1, CPU_CELLS // width) if device.type == "cpu" else sys.maxsize
