"""The interface of pair models: encode each protein once, then let pairs of states interact.

A model is a `transformers` model with these methods:

    encode(proteins (U, L, D), lengths (U,))                          -> states (U, S, d)
    interact(states_a, lengths_a, states_b, lengths_b), B pairs       -> logits (B,)
    forward(proteins, lengths, pairs (B, 2), labels=None)             -> PairOutput(loss, logits)

where S is L, or 1 for a model that pools its residues (see `state_lengths`). Interactions have no
direction: `interact` is symmetric in its two sides up to rounding.

The program itself never pads. It uses the same two steps over rows laid end to end, and between
them a third step that prepares each single protein for its interactions:

    encode_rows(residues (R, D), lengths (U,))                        -> rows (R', d)
    prepare(rows (R', d))                                             -> rows (R', p)
    interact_rows(rows (R', p), lengths (U,), pairs (B, 2))           -> logits (B,)

A model implements each step in one of the two forms; the base class derives the other. `prepare`
is optional. `interact_rows` may get rows in another dtype than `prepare` returned them in, because
scoring stores them in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from common.config import ModelConfig
from common.models.ragged import AttentionPath, HostInts, on_host, pack, pad, to_device

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
INITIALIZER_STD = 0.02  # standard deviation of learned tokens

Numbers = TypeVar("Numbers", Tensor, HostInts)


class PairModelConfig(PreTrainedConfig):
    """The hyperparameters that all pair models share; `from_settings` reads them from YAML."""

    input_dim: int = 0
    hidden_dims: list[int] | None = None
    head_dropout: float = 0.1
    head_activation: str = "gelu"
    head_norm: str = "layernorm"
    dropout: float = 0.1

    @classmethod
    def from_settings(cls, settings: ModelConfig, input_dim: int) -> Self:
        """Create the config of a model for embeddings of width `input_dim`."""
        head = settings.mlp_head
        return cls(
            input_dim=input_dim,
            hidden_dims=list(head.hidden_dims),
            head_dropout=head.dropout,
            head_activation=head.activation,
            head_norm=head.norm,
            dropout=settings.regularization.dropout,
            **cls.own_settings(settings),
        )

    @classmethod
    def own_settings(cls, settings: ModelConfig) -> dict[str, Any]:
        """Return the settings that only this architecture has; by default, an empty dict."""
        return {}


@dataclass
class PairOutput(ModelOutput):
    """The output of a pair model: logits (B,) and, if labels were given, the mean loss."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class PairModel(PreTrainedModel):
    """Base class of all pair models, which standardises inputs and combines both steps."""

    config_class = PairModelConfig
    base_model_prefix = ""
    main_input_name = "proteins"
    pools_residues: ClassVar[bool] = False
    # Whether a grid of many by many proteins is scored faster than its pairs in a list.
    scores_grids: ClassVar[bool] = False
    # Whether a protein's mean residue alone gives the same states as all its residues.
    reads_means: ClassVar[bool] = False
    # Methods, by module class, that process each row independently. Compiled for a variable number
    # of rows, they serve batches of all shapes.
    row_wise: ClassVar[Mapping[type[nn.Module], tuple[str, ...]]] = {}

    input_mean: Tensor
    input_scale: Tensor

    def __init__(self, config: PairModelConfig) -> None:
        super().__init__(config)
        # Persistent, so that checkpoints include the statistics (and because transformers
        # restores non-persistent buffers as garbage).
        self.register_buffer("input_mean", torch.zeros(config.input_dim))
        self.register_buffer("input_scale", torch.ones(config.input_dim))

    @property
    def parameter_dtype(self) -> torch.dtype:
        """The dtype of the parameters, which autocast does not change."""
        return self.input_mean.dtype

    def attention_path(self, device: torch.device, dtype: torch.dtype) -> AttentionPath:
        """Return the method of attention for a device and dtype; `none` without attention."""
        return "none"

    def encode(self, proteins: Tensor, lengths: Tensor) -> Tensor:
        """Encode padded residue embeddings (U, L, D) as states (U, S, d), zero where padded."""
        counts = on_host(lengths)
        rows = self.encode_rows(pack(proteins, counts), counts)
        return pad(rows, self.state_lengths(counts))

    def encode_rows(self, residues: Tensor, lengths: HostInts) -> Tensor:
        """Encode U proteins, whose residues (R, D) are laid end to end, as state rows (R', d)."""
        states = self.encode(pad(residues, lengths), to_device(lengths, residues.device))
        return pack(states, self.state_lengths(lengths))

    def padding(self, lengths: HostInts) -> int:
        """Count the rows of padding that are encoded along with U proteins of these lengths."""
        if type(self).encode_rows is not PairModel.encode_rows:
            return 0
        return int(len(lengths) * lengths.max() - lengths.sum())

    def prepare(self, rows: Tensor) -> Tensor:
        """Compute rows (R', p) with everything that `interact_rows` needs about single proteins."""
        return rows

    def interact(
        self, states_a: Tensor, lengths_a: Tensor, states_b: Tensor, lengths_b: Tensor
    ) -> Tensor:
        """Compute the logits (B,) of B pairs of states, with lengths as in `state_lengths`."""
        counts_a, counts_b = on_host(lengths_a), on_host(lengths_b)
        rows = torch.cat([pack(states_a, counts_a), pack(states_b, counts_b)])
        pairs = np.arange(2 * len(counts_a)).reshape(2, -1).T
        return self.interact_rows(self.prepare(rows), np.concatenate([counts_a, counts_b]), pairs)

    def interact_rows(self, rows: Tensor, lengths: HostInts, pairs: HostInts) -> Tensor:
        """Compute the logits (B,) of pairs of proteins, given as rows (R', p) from `prepare`.

        Args:
            rows: The proteins' rows, laid end to end.
            lengths: (U,) rows of each protein, as `state_lengths` counts them.
            pairs: (B, 2) indices of proteins.
        """
        states = pad(rows.to(self.parameter_dtype), lengths)
        counts = to_device(lengths, rows.device)
        a, b = to_device(np.ascontiguousarray(pairs), rows.device).unbind(1)
        return self.interact(states[a], counts[a], states[b], counts[b])

    def interact_grid(self, rows: Tensor, first: int) -> Tensor:
        """Compute the logits (h, w) of the pairs of the first h proteins with the other w proteins.

        Only models with `scores_grids` implement this.

        Args:
            rows: (h + w, p) rows from `prepare`, one for each protein.
            first: The number h.
        """
        raise NotImplementedError

    def state_lengths(self, lengths: Numbers) -> Numbers:
        """Return the number of states that `encode` returns for proteins of these lengths."""
        return lengths.clip(1, 1) if self.pools_residues else lengths

    def forward(
        self,
        proteins: Tensor,
        lengths: Tensor | HostInts,
        pairs: Tensor | HostInts,
        labels: Tensor | None = None,
    ) -> PairOutput:
        """Encode every protein once, then compute the logits of pairs of the proteins.

        Args:
            proteins: (U, L, D) padded, or all residues (R, D) laid end to end.
            lengths: (U,) residues of each protein. Shapes are planned on the host: give a NumPy
                array or a CPU tensor; a GPU tensor makes the host wait.
            pairs: (B, 2) indices of proteins, also on the host.
            labels: (B,) labels; if they are given, the mean loss is computed too.
        """
        counts, numbers = on_host(lengths), on_host(pairs)
        residues = pack(proteins, counts) if proteins.dim() == 3 else proteins
        rows = self.prepare(self.encode_rows(residues, counts))
        logits = self.interact_rows(rows, self.state_lengths(counts), numbers)
        loss = None
        if labels is not None:
            loss = functional.binary_cross_entropy_with_logits(logits.float(), labels.float())
        return PairOutput(loss=loss, logits=logits)

    def standardize(self, proteins: Tensor) -> Tensor:
        """Scale embeddings so that the training residues have mean 0 and standard deviation 1.

        A language model's states have a few dimensions hundreds of times larger than the rest;
        unscaled, these would dominate the first projection.
        """
        return (proteins.to(self.parameter_dtype) - self.input_mean) * self.input_scale

    def set_input_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the mean and the standard deviation, each (D,), by which inputs are standardised."""
        self.input_mean.copy_(mean)
        self.input_scale.copy_(1.0 / deviation.clamp_min(1e-6))

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a module: Xavier weights, zero biases, and norms that are the identity.

        The usual standard deviation of 0.02 suits a width near 640, but in a model 32 wide it makes
        attention start flat, and the model learns nothing for many epochs.
        """
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, PairModel):
            init.zeros_(module.input_mean)
            init.ones_(module.input_scale)


class MeanModel(PairModel):
    """Base class of the models that use only the mean of a protein's residues."""

    pools_residues = reads_means = True

    def encode_rows(self, residues: Tensor, lengths: HostInts) -> Tensor:
        """Standardise the residue embeddings and return their mean for each protein, (U, D)."""
        if (lengths == 1).all():  # One row is its own mean.
            return self.standardize(residues)
        counts = to_device(lengths, residues.device)
        # `unsafe` skips checks of the lengths for which the host would wait for a GPU.
        return torch.segment_reduce(self.standardize(residues), "mean", lengths=counts, unsafe=True)


class PairHead(nn.Module):
    """The multilayer perceptron that maps each representation (B, d) to a logit or a vector."""

    def __init__(self, input_dim: int, config: PairModelConfig, output_dim: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = input_dim
        for hidden in config.hidden_dims or []:
            layers.append(nn.Linear(width, hidden))
            if config.head_norm == "layernorm":
                layers.append(nn.LayerNorm(hidden))
            layers += [ACTIVATIONS[config.head_activation](), nn.Dropout(config.head_dropout)]
            width = hidden
        layers.append(nn.Linear(width, output_dim))
        self.layers = nn.Sequential(*layers)

    def forward(self, representation: Tensor) -> Tensor:
        """Compute the logits (B,), or the vectors (B, output_dim), of representations (B, d)."""
        outputs: Tensor = self.layers(representation)
        return outputs.squeeze(-1)
