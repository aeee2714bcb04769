"""Which sequences are embedded together: requests by protein, and their batches by length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xxhash

from common.errors import UserError


@dataclass(frozen=True)
class Request:
    """A protein whose states are requested; `residues` is upper case and already cut."""

    protein: str
    residues: str
    sequence_hash: str


def make_requests(sequences: Mapping[str, str], cut_length: int | None) -> list[Request]:
    """Cut and hash the sequences; equal ones get equal hashes and so share a row of the store.

    Args:
        sequences: Protein id to sequence.
        cut_length: The residues that are kept of longer sequences; None to keep all.

    Raises:
        UserError: There is no protein, or a sequence is empty.
    """
    if not sequences:
        raise UserError("there are no proteins to embed; check the benchmark's files")
    requests = []
    for protein, sequence in sequences.items():
        residues = sequence[:cut_length].upper()
        if not residues:
            raise UserError(f"the sequence of {protein} is empty; add residues or remove it")
        digest = xxhash.xxh3_128_hexdigest(residues.encode())
        requests.append(Request(protein, residues, digest))
    return requests


def plan_batches(
    requests: Iterable[Request], tokens_per_batch: int, special_tokens: int, window: int
) -> list[list[Request]]:
    """Sort by length, longest first, and cut into batches of a limited number of padded tokens.

    The longest come first so that memory runs out at once or never. A batch's size depends on its
    longest sequence alone, so leaving out some batches does not change the plan for the rest. A
    sequence that is longer than a window is a batch of its own.
    """
    ordered = sorted(requests, key=lambda request: (-len(request.residues), request.sequence_hash))
    batches, first = [], 0
    while first < len(ordered):
        width = len(ordered[first].residues) + special_tokens
        is_whole = len(ordered[first].residues) <= window
        end = first + (max(1, tokens_per_batch // width) if is_whole else 1)
        batches.append(ordered[first:end])
        first = end
    return batches
