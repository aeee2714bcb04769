"""Which sequences are embedded together: requests by protein, and their batches by length.

The plan follows from the sequences alone, so any number of processes computes the same batches. It
is noted in the cache until all of it is stored: whoever goes on computes the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from common.errors import UserError
from common.files import write_atomically

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Request:
    """A protein whose states are wanted; `residues` is upper case and already cut."""

    protein: str
    residues: str
    sequence_hash: str


def make_requests(sequences: Mapping[str, str], max_sequence_length: int) -> list[Request]:
    """Cut and hash the sequences; equal ones get equal hashes and so share a row of the store.

    Raises:
        UserError: There is no protein, or a sequence is empty.
    """
    if not sequences:
        raise UserError("there are no proteins to embed; check the benchmark's files")
    requests = []
    for protein, sequence in sequences.items():
        residues = sequence[:max_sequence_length].upper()
        if not residues:
            raise UserError(f"the sequence of {protein} is empty; remove it or give its residues")
        digest = xxhash.xxh3_128_hexdigest(residues.encode())
        requests.append(Request(protein, residues, digest))
    return requests


def plan_batches(
    requests: Sequence[Request], tokens_per_batch: int, special_tokens: int
) -> list[list[Request]]:
    """Sort by length, longest first, and cut into batches of at most so many padded tokens.

    The plan follows from the sequences alone, so any number of processes computes the same
    batches; the longest come first so that memory runs out at once or never.
    """
    ordered = sorted(requests, key=lambda request: (-len(request.residues), request.sequence_hash))
    batches, first = [], 0
    while first < len(ordered):
        width = len(ordered[first].residues) + special_tokens
        end = first + max(1, tokens_per_batch // width)
        batches.append(ordered[first:end])
        first = end
    return batches


def settle_plan(
    file: Path,
    wanted: Mapping[str, Request],
    missing: set[str],
    tokens_per_batch: int,
    special_tokens: int,
) -> list[list[str]]:
    """The batches to compute, as sequence hashes, and note them for whoever has to go on.

    A state depends a little on what else is in its batch. So batches that an interrupted run
    had planned are computed as it would have computed them, and only the rest is planned anew.

    Args:
        file: Where the plan is noted.
        wanted: What the run asks for, by sequence hash.
        missing: Which of it is not stored yet.
        tokens_per_batch: At most so many padded tokens in a batch.
        special_tokens: That the language model adds to a sequence.
    """
    noted = [
        batch
        for batch in read_plan(file, tokens_per_batch)
        if not missing.isdisjoint(batch) and wanted.keys() >= set(batch)
    ]
    rest = missing.difference(*noted)
    new = plan_batches([wanted[key] for key in rest], tokens_per_batch, special_tokens)
    plan = noted + [[request.sequence_hash for request in batch] for batch in new]
    write_atomically(file, json.dumps({"tokens_per_batch": tokens_per_batch, "batches": plan}))
    return plan


def read_plan(file: Path, tokens_per_batch: int | None = None) -> list[list[str]]:
    """What an interrupted run noted, unless it was under another limit or cannot be read."""
    try:
        content = json.loads(file.read_bytes())
        batches = [[str(key) for key in batch] for batch in content["batches"]]
        return batches if tokens_per_batch in (None, content["tokens_per_batch"]) else []
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        # It costs the last bit of some numbers, no more.
        return []
