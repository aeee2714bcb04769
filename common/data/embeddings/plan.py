"""Plans the embedding of proteins: cuts and hashes sequences, and forms batches by length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xxhash

from common.errors import UserError


@dataclass(frozen=True)
class Request:
    """A protein to embed, with its residues in upper case, already cut to the maximum length."""

    protein: str
    residues: str
    sequence_hash: str


def make_requests(sequences: Mapping[str, str], cut_length: int | None) -> list[Request]:
    """Cut and hash the sequences to embed; equal sequences have equal hashes and share a row.

    Args:
        sequences: The sequences by protein id.
        cut_length: The number of residues to which longer sequences are cut; None cuts nothing.

    Raises:
        UserError: There is no protein, or a sequence is empty.
    """
    if not sequences:
        raise UserError("no proteins are left to embed; check the files of the benchmark")
    requests = []
    for protein, sequence in sequences.items():
        residues = sequence[:cut_length].upper()
        if not residues:
            raise UserError(
                f"the sequence of {protein} is empty; add residues or remove the protein"
            )
        digest = xxhash.xxh3_128_hexdigest(residues.encode())
        requests.append(Request(protein, residues, digest))
    return requests


def plan_batches(
    requests: Iterable[Request], tokens_per_batch: int, special_tokens: int, window: int
) -> list[list[Request]]:
    """Divide sequences into batches of a limited number of padded tokens, longest first.

    The longest sequences come first, so that a lack of memory shows at once. The size of a batch
    depends only on its longest sequence, so leaving out some batches does not change the plan for
    the other batches. A sequence that is longer than a window forms a separate batch.
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
