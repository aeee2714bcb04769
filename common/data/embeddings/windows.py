"""Embeds proteins that are too long for a language model in overlapping windows.

All windows of a protein have the same length, and adjacent windows share at least a quarter of
their residues: a residue at the edge of a window lacks its neighbours on one side, but the next
window contains the same residue further inside. The states of a residue are averaged over all
windows that contain the residue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from common.data.embeddings.language_model import LanguageModel

OVERLAP = 0.25  # the smallest fraction of a window that the next window shares


def place_windows(length: int, window: int) -> list[slice]:
    """Cover a protein with the fewest evenly spaced windows that overlap by at least `OVERLAP`.

    Args:
        length: The number of residues of the protein.
        window: The number of residues of a window; a shorter protein is one window.
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
    """Average the states of a protein over its windows; return (length, dim) float32 on the host.

    Args:
        model: The language model.
        residues: The whole sequence, in upper case.
        window: The number of residues of a window.
        tokens_per_batch: The maximum number of tokens of the windows that are computed at once (at
            least one window), so that the memory does not grow with the length of the protein.
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
