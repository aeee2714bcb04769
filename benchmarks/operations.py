"""Count the floating-point operations that v3 needs at least, and those of the naive pipeline.

A multiplication and an addition count as two. Only the work of a matrix unit is counted, not
norms, activations and softmax. With d the model's width, D that of the embeddings, L residues:

    encode a protein     2 D d L + layers (24 d² L + 4 d L²)
    prepare a protein    6 d² L                                  (the first block's projections)
    a pair, per block    18 d² (La + Lb) + 8 d La Lb, and from the second block on 6 d² (La + Lb)
    CLS, per block       4 h d (La + Lb) + 24 d²                 (h heads; it needs no projections)

The naive pipeline encodes both proteins for each pair, at padded lengths, and projects for CLS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """The sizes of a v3 model."""

    input_dim: int = 320
    d_model: int = 128
    heads: int = 4
    encoder_layers: int = 2
    cross_layers: int = 2

    def encoding(self, lengths: Lengths) -> float:
        """Count the operations to encode each of these proteins once."""
        d, layers = self.d_model, self.encoder_layers
        rows, squares = float(lengths.sum()), float((lengths.astype(np.float64) ** 2).sum())
        return 2 * self.input_dim * d * rows + layers * (24 * d * d * rows + 4 * d * squares)

    def preparing(self, lengths: Lengths) -> float:
        """Count the operations to prepare each of these proteins once."""
        return 6.0 * self.d_model**2 * float(lengths.sum())

    def interacting(self, pairs: Lengths) -> float:
        """Count the operations for pairs of prepared proteins of these lengths (B, 2)."""
        d, blocks = self.d_model, self.cross_layers
        rows, products = float(pairs.sum()), float(pairs.prod(axis=1, dtype=np.float64).sum())
        sides = blocks * (18 * d * d * rows + 8 * d * products) + (blocks - 1) * 6 * d * d * rows
        return sides + blocks * (4 * self.heads * d * rows + 24 * d * d * len(pairs))

    def scoring(self, lengths: Lengths, pairs: Lengths) -> float:
        """Count the operations for pairs (B, 2) of proteins of these lengths, each encoded once."""
        alone = self.encoding(lengths) + self.preparing(lengths)
        return alone + self.interacting(lengths[pairs])

    def naive(self, pairs: Lengths) -> float:
        """Count the naive pipeline's operations for pairs of these padded lengths (B, 2)."""
        d = self.d_model
        rows, products = float(pairs.sum()), float(pairs.prod(axis=1, dtype=np.float64).sum())
        return self.encoding(pairs.ravel()) + self.cross_layers * (
            28 * d * d * rows + 8 * d * products
        )
