"""Overlapping windows over proteins that are too long for a language model to read at once.

All windows of a protein are equally long, and neighbours share at least a quarter of their
residues: a residue at the edge of a window lacks its neighbours on one side, and near the edge of
one window it lies further inside the next. The states of a residue are averaged over the windows
that contain it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from common.data.embeddings.language_model import LanguageModel

OVERLAP = 0.25  # of a window, at least


def place_windows(length: int, window: int) -> list[slice]:
    """Cover a protein with the fewest windows that overlap enough, evenly spaced.

    Args:
        length: Residues of the protein.
        window: Residues of a window; a shorter protein is one window.
    """
    if length <= window:
        return [slice(0, length)]
    step = max(1, window - math.ceil(OVERLAP * window))
    gaps = math.ceil((length - window) / step)
    starts = [(length - window) * number // gaps for number in range(gaps + 1)]
    return [slice(start, start + window) for start in starts]


def states_of_long(
    model: LanguageModel, residues: str, window: int, tokens_per_batch: int
) -> torch.Tensor:
    """Average the states of a protein's windows: (length, dim), in float32 on the host.

    Args:
        model: The language model.
        residues: The whole sequence, in upper case.
        window: Residues of a window.
        tokens_per_batch: As many windows are computed at once as fit into this number of tokens,
            and at least one, so that the memory does not grow with the protein.
    """
    windows = place_windows(len(residues), window)
    total = torch.zeros(len(residues), model.dim)
    counts = torch.zeros(len(residues), 1)
    for batch in _batches(windows, tokens_per_batch // (window + model.special_tokens)):
        states = model.residue_states([residues[part] for part in batch])
        for part, values in zip(batch, states, strict=True):
            total[part] += values.cpu()
            counts[part] += 1
    return total / counts


def _batches(windows: list[slice], size: int) -> Iterator[list[slice]]:
    step = max(1, size)
    for first in range(0, len(windows), step):
        yield windows[first : first + step]
