"""The model v3: a siamese transformer encoder, and cross-attention between the two proteins.

    residues (L, D) -> means of `residues_per_state` neighbours -> projection -> token dropout
                    -> `encoder_layers` x [self-attention, FF]
    states a, b     -> `cross_attn_layers` x [a attends b, b attends a, FF; CLS attends both, FF]
    CLS             -> MLP head -> logit

Every weight is shared between the two sides, and each side attends to the other's state from before
the block, so swapping the proteins leaves the logit unchanged. There are no positional encodings:
the language model's states carry position.

Nothing is padded: proteins, and the two sides of a pair, are rows laid end to end (`ragged.py`).
`prepare` computes what the first block needs about each single protein.

Under autocast, matrix products and attention run in half precision, but the residual stream stays
in the parameters' dtype (float32) in the encoder and in the cross blocks alike: rounded to bfloat16
after every branch, small updates of large states would be lost. Only the encoded proteins are
rounded once, between the encoder and the blocks, as they are when they are stored for scoring. The
work on single rows between two attentions is one method (`row_wise`), which a compiler can fuse
into few kernels.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import initialization as init

from common.config import ModelConfig
from common.errors import UserError
from common.models import register
from common.models.base import INITIALIZER_STD, Numbers, PairHead, PairModel, PairModelConfig
from common.models.ragged import (
    AttentionPath,
    HostInts,
    Layout,
    Links,
    Ragged,
    attend,
    attention_path,
    computing_dtype,
    cut,
    takes_all_lengths_at_once,
    to_device,
)

FEED_FORWARD_FACTOR = 4
CPU_CELLS = 2**19


class V3Config(PairModelConfig):
    """The hyperparameters of v3: its sizes and dropout rates."""

    model_type = "relic-v3"

    d_model: int = 640
    residues_per_state: int = 1
    encoder_layers: int = 5
    cross_attn_layers: int = 5
    n_heads: int = 10
    token_dropout: float = 0.0
    cross_attention_dropout: float = 0.0
    stochastic_depth: float = 0.0

    @classmethod
    def own_settings(cls, settings: ModelConfig) -> dict[str, Any]:
        """Return the settings that only v3 has: depths, width, heads and dropout rates.

        Raises:
            UserError: The width cannot be divided among the heads.
        """
        if settings.d_model % settings.n_heads:
            raise UserError(
                f"model_config.n_heads ({settings.n_heads}) must divide model_config.d_model"
                f" ({settings.d_model}); change one of them"
            )
        regularization = settings.regularization
        return {
            "d_model": settings.d_model,
            "residues_per_state": settings.residues_per_state,
            "encoder_layers": settings.encoder_layers,
            "cross_attn_layers": settings.cross_attn_layers,
            "n_heads": settings.n_heads,
            "token_dropout": regularization.token_dropout,
            "cross_attention_dropout": regularization.cross_attention_dropout,
            "stochastic_depth": regularization.stochastic_depth,
        }


class Attention(nn.Module):
    """Multi-head attention over rows of width d.

    Dropout is applied to the heads' outputs, before the output projection. Unlike dropout of
    attention weights, this needs no special kernel and never stores a matrix of queries by keys.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, width)

    def project(self, states: Tensor) -> Tensor:
        """Project rows (R, d) to concatenated queries, keys and values (R, 3 d)."""
        weight = torch.cat([self.query.weight, self.key_value.weight])
        return linear(states, weight, torch.cat([self.query.bias, self.key_value.bias]))

    def split_heads(self, projected: Tensor, layout: Layout) -> tuple[Ragged, Ragged]:
        """Split projected rows into queries (R, heads, w) and keys with values (R, 2, heads, w)."""
        query, context = projected.unflatten(1, (3, self.heads, -1)).split((1, 2), dim=1)
        return Ragged(query[:, 0], layout), Ragged(context, layout)

    def merge(self, read: Tensor) -> Tensor:
        """Apply dropout and the output projection to the heads' outputs (R, d)."""
        output: Tensor = self.output(self.dropout(read))
        return output

    def read(self, states: Tensor, contexts: Ragged) -> Tensor:
        """Let query i of B queries (B, d) attend to sequence i of B sequences of rows (R, d)."""
        query = self.query(states).unflatten(1, (self.heads, -1))
        if takes_all_lengths_at_once(query):
            return self._read_projected(query, contexts)
        return self._read_absorbed(query, contexts)

    def _read_projected(self, query: Tensor, contexts: Ragged) -> Tensor:
        context = self.key_value(contexts.rows).unflatten(1, (2, self.heads, -1))
        count = len(query)
        queries = Ragged(query, Layout((1,) * count, query.device))
        layout = Ragged(context, contexts.layout)
        return attend(queries, layout, Links.to_itself(count)).flatten(1)

    def _read_absorbed(self, query: Tensor, contexts: Ragged) -> Tensor:
        """Compute the result of `read` by projecting the query instead of the rows, with less work.

        q · (W x + b) = (Wᵀ q) · x + q · b, and the last term is the same for every row, so softmax
        cancels it; a weighted mean of W x + b is W times the weighted mean of x, plus b.
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
            scale=width**-0.5,
        )
        means = means.view(count, heads, -1)
        read = torch.einsum("bhd,hwd->bhw", means, value).flatten(1)
        return read + self.key_value.bias[heads * width :]


class FeedForward(nn.Sequential):
    """The feed-forward layer of a transformer, whose hidden layer is four times as wide."""

    def __init__(self, width: int, dropout: float) -> None:
        inner = FEED_FORWARD_FACTOR * width
        super().__init__(
            nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width)
        )


class EncoderLayer(nn.Module):
    """A pre-norm encoder layer whose branches proteins skip with the probability `drop_rate`."""

    def __init__(self, config: V3Config, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = Attention(config.d_model, config.n_heads)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, layout: Layout) -> Tensor:
        """Apply the layer to the rows (R, d) of U proteins."""
        queries, contexts = self.attention.split_heads(self.project(states), layout)
        read = attend(queries, contexts, Links.to_itself(len(layout.lengths)))
        return self.transform(states, read.flatten(1), self.draw_survival(layout))

    def project(self, states: Tensor) -> Tensor:
        """Normalise the rows and project the result to queries, keys and values (R, 3 d)."""
        return self.attention.project(self.attention_norm(states))

    def transform(self, states: Tensor, read: Tensor, survival: Tensor | None) -> Tensor:
        """Add the attention and feed-forward branches to the states, given the heads' outputs."""
        branch = self.dropout(self.attention.merge(read))
        states = states + (branch if survival is None else branch * survival[0])
        branch = self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        transformed: Tensor = states + (branch if survival is None else branch * survival[1])
        return transformed

    def draw_survival(self, layout: Layout) -> Tensor | None:
        """Draw factors (2, R, 1) of both branches, 0 where a protein skips a branch."""
        if not self.training or self.drop_rate == 0.0:
            return None
        keep = 1.0 - self.drop_rate
        kept = torch.empty(2, len(layout.lengths), device=layout.device).bernoulli_(keep)
        return (kept / keep)[:, layout.sequence_of_row, None]


class CrossBlock(nn.Module):
    """A block in which the two proteins attend to each other, and the CLS token to both."""

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
        self, sides: Ragged, cls: Tensor, queries: Ragged, contexts: Ragged, links: Links
    ) -> tuple[Tensor, Tensor]:
        """Apply the block to B pairs.

        Args:
            sides: The 2 B sides, (R, d), those of a pair next to each other.
            cls: The states (B, d) of the CLS tokens.
            queries: The heads' queries, in sequences that `links` refers to.
            contexts: The heads' keys and values, likewise.
            links: For each side, its own sequence and its partner's.
        """
        read = attend(queries, contexts, links)
        rows, normed = self.transform_sides(sides.rows, read.flatten(1))
        both = Ragged(normed, sides.layout.in_twos)
        read = self.cls_attention.read(self.cls_norm(cls), both)
        return rows, self.transform_cls(cls, read)

    def project(self, states: Tensor) -> Tensor:
        """Normalise the rows and project the result to queries, keys and values (R, 3 d)."""
        return self.cross_attention.project(self.cross_norm(states))

    def transform_sides(self, states: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the proteins' next states (R, d), plain and normalised, from heads' outputs."""
        rows = self._transform(states + self.dropout(self.cross_attention.merge(read)))
        return rows, self.sides_norm(rows)

    def transform_cls(self, cls: Tensor, read: Tensor) -> Tensor:
        """Compute the next states (B, d) of the CLS tokens from the heads' outputs."""
        return self._transform(cls + self.dropout(self.cls_attention.merge(read)))

    def _transform(self, states: Tensor) -> Tensor:
        branch = self.feed_forward(self.feed_forward_norm(states))
        transformed: Tensor = states + self.dropout(branch)
        return transformed


@register("v3")
class V3Model(PairModel):
    """The pair model v3, a siamese transformer with cross-attention."""

    config_class = V3Config
    row_wise: ClassVar = {
        EncoderLayer: ("project", "transform"),
        CrossBlock: ("project", "transform_sides", "transform_cls"),
    }

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

    def attention_path(self, device: torch.device, dtype: torch.dtype) -> AttentionPath:
        """Return the method of attention for a device and dtype; see `ragged.attention_path`."""
        return attention_path(device, dtype, self.config.d_model // self.config.n_heads)

    def encode_rows(self, residues: Tensor, lengths: HostInts) -> Tensor:
        """Encode U proteins, whose residues are rows (R, D), as state rows (R', d_model)."""
        residues, lengths = self._average_neighbours(residues, lengths)
        pieces = cut(lengths, rows_at_a_time(residues.device, self.config.d_model))
        sizes = [int(lengths[piece].sum()) for piece in pieces]
        encoded = [
            self._encode(rows, Layout(tuple(lengths[piece].tolist()), rows.device))
            for rows, piece in zip(residues.split(sizes), pieces, strict=True)
        ]
        return torch.cat(encoded)

    def state_lengths(self, lengths: Numbers) -> Numbers:
        """Return the number of states of proteins of these lengths."""
        size: int = self.config.residues_per_state
        states: Numbers = -(-lengths // size)
        return states

    def prepare(self, rows: Tensor) -> Tensor:
        """Append the first cross block's queries, keys and values to the states: (R, 4 d_model)."""
        projected = self._blocks[0].project(rows.to(self.parameter_dtype))
        return torch.cat([rows.to(projected.dtype), projected], dim=1)

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute the logits (B,) of pairs of proteins, given as prepared rows (R, 4 d_model)."""
        layout = Layout(tuple(lengths.tolist()), rows.device)
        width = self.config.d_model
        states, projected = rows.split((width, 3 * width), dim=1)
        proteins = Ragged(states, layout)
        projected = projected.to(computing_dtype(rows.device, self.parameter_dtype))
        heads = self._blocks[0].cross_attention.split_heads(projected, layout)
        pieces = cut(lengths[pairs].sum(1), rows_at_a_time(rows.device, width))
        return torch.cat([self._interact(proteins, *heads, pairs[piece]) for piece in pieces])

    @property
    def _blocks(self) -> list[CrossBlock]:
        return [cast(CrossBlock, block) for block in self.cross]

    def _average_neighbours(self, residues: Tensor, lengths: HostInts) -> tuple[Tensor, HostInts]:
        """Average runs of neighbouring residues; the last run of a protein may be shorter."""
        size = self.config.residues_per_state
        if size == 1:
            return residues, lengths
        states = self.state_lengths(lengths)
        runs = np.full(int(states.sum()), size)
        runs[np.cumsum(states) - 1] -= states * size - lengths
        counts = to_device(runs, residues.device)
        # `unsafe` skips checks of the lengths for which the host would wait for a GPU.
        rows = residues.to(self.parameter_dtype)
        return torch.segment_reduce(rows, "mean", lengths=counts, unsafe=True), states

    def _encode(self, residues: Tensor, layout: Layout) -> Tensor:
        projected = self.projection(self.standardize(residues)).to(self.parameter_dtype)
        states = self._drop_tokens(projected)
        for layer in self.encoder:
            states = layer(states, layout)
        encoded: Tensor = self.encoder_norm(states)
        return encoded

    def _interact(
        self, proteins: Ragged, queries: Ragged, contexts: Ragged, pairs: HostInts
    ) -> Tensor:
        own, partner = tuple(pairs.ravel().tolist()), tuple(pairs[:, ::-1].ravel().tolist())
        sides = proteins.take(own).to(self.parameter_dtype)
        cls = self.cls[0].expand(len(pairs), -1)
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
        """Zero whole residues at random, so that the model does not rely on single residues."""
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
    """Return how many rows of a width the layers process at a time.

    On a CPU, the rows are few enough to stay in the cache from one layer to the next; any other
    device processes all rows together.
    """
    return max(1, CPU_CELLS // width) if device.type == "cpu" else sys.maxsize
