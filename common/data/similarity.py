"""Finds similar protein sequences, and groups proteins whose sequences are similar.

Two sequences are similar at an identity if they are equal, or if a local alignment has at least
that fraction of identical columns and covers at least 80 % of one of the two sequences
(`COVERAGE`). Covering the shorter sequence is enough: a fragment is similar to its whole protein,
but two long proteins that share a small domain are not similar. Without the coverage, shared
domains would join thousands of human proteins into one group.

MMseqs2 compares all sequences with each other if `mmseqs` is on the PATH. Otherwise this module
searches by shared k-mers, which is approximate: it misses pairs, more of them at low identities.

`match_sequences` instead measures the similarity of queries and targets, however low it is.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from common.children import run_child
from common.errors import UserError, excerpt
from common.long_work import LongWork

Method = Literal["mmseqs2", "k-mers"]
Numbers = NDArray[np.int64]

COVERAGE = 0.8
EXPECT = "10"  # E-value of `match_sequences`: finds distant relatives, and some chance matches
COMMAND = "mmseqs"

_MMSEQS_LEAST = 14  # residues; MMseqs2 fails if every sequence is shorter
_LETTERS = b"ACDEFGHIKLMNPQRSTVWY"
# The positions that a seed compares (1); gaps make a seed more sensitive. At high identities,
# similar proteins share long seeds, which few other pairs of proteins share.
_SEED, _LONG_SEED, _LONG_FROM = "110111", "110110111011", 0.6
_MOST_SHARED = 100  # a seed that occurs more often than this is not informative
# Seeds needed near one diagonal to align a pair: in general, and with a sequence below _SHORT.
_LEAST_SEEDS, _LEAST_IN_SHORT, _SHORT = 3, 2, 200
_BITS_DIAGONAL, _BITS_BIN = 18, 5  # 2^17 residues at most; diagonals are searched 32 at a time
_BAND = 48  # diagonals on each side that an alignment may use
_SWITCH = 3  # identical residues that a change of diagonal costs
_BATCH = 1024
# The estimate counts identical residues over the whole shorter sequence and misses residues that
# long gaps move out of the band, so a pair needs only this fraction of the required identity.
_LENIENCE = 0.7


@dataclass(frozen=True, eq=False)
class Similarity:
    """All pairs of similar sequences in a set of sequences.

    Attributes:
        names: The ids of all sequences.
        pairs: (K, 2) distinct pairs of indices into `names`, the smaller first.
        method: The search method that found the pairs.
    """

    names: tuple[str, ...]
    pairs: Numbers
    method: Method

    def groups(self) -> Numbers:
        """Return the group (N,) of each sequence by single linkage of similar sequences."""
        count = len(self.names)
        links = coo_matrix((np.ones(len(self.pairs)), self.pairs.T), shape=(count, count))
        groups: Numbers = connected_components(links, directed=False)[1].astype(np.int64)
        return groups


@dataclass(frozen=True, eq=False)
class Matches:
    """The matching pairs of a query and a target sequence, with the identity of each pair.

    Attributes:
        pairs: (K, 2) the indices of a query and a target, distinct, sorted.
        shares: (K,) identical residues of the alignment divided by the length of the shorter
            sequence, above 0, at most 1.
        method: The search method that found the pairs.
    """

    pairs: Numbers
    shares: NDArray[np.float64]
    method: Method


def find_similar(
    sequences: Mapping[str, str], identity: float, method: Method | None = None
) -> Similarity:
    """Find all pairs of sequences that are similar at the given identity.

    Args:
        sequences: The sequences by id.
        identity: The fraction of identical residues, above 0, at most 1.
        method: The search method; None uses MMseqs2 if it is installed, otherwise k-mers.

    Raises:
        UserError: MMseqs2 fails.
    """
    names = tuple(sequences)
    texts = [sequences[name] for name in names]
    method = method or best_method()
    search = _search_mmseqs if method == "mmseqs2" else _search_kmers
    pairs = np.concatenate([_find_equal(texts), search(texts, identity)])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return Similarity(names, pairs[pairs[:, 0] < pairs[:, 1]], method)


def match_sequences(
    queries: Sequence[str], targets: Sequence[str], method: Method | None = None
) -> Matches:
    """Find all pairs of a query and a target that match, without a minimum identity or coverage.

    Equal sequences always match. Two other sequences match if MMseqs2 finds a local alignment with
    an E-value of at most `EXPECT`, or (k-mers) if the sequences share seeds near one diagonal.

    Args:
        queries: The sequences to compare.
        targets: The sequences with which the queries are compared.
        method: The search method; None uses MMseqs2 if it is installed, otherwise k-mers.

    Raises:
        UserError: MMseqs2 fails.
    """
    method = method or best_method()
    search = _match_mmseqs if method == "mmseqs2" else _match_kmers
    pairs, shares = search(queries, targets)
    equal = _find_equal([*queries, *targets])
    equal = equal[(equal[:, 0] < len(queries)) & (equal[:, 1] >= len(queries))]
    pairs = np.concatenate([pairs, equal - [0, len(queries)]])
    shares = np.concatenate([shares, np.ones(len(equal))])
    # The best alignment of a pair comes first, and all other alignments are dropped.
    order = np.argsort(-shares, kind="stable")
    distinct, first = np.unique(pairs[order], axis=0, return_index=True)
    return Matches(distinct, shares[order][first], method)


def best_method() -> Method:
    """Return the best available search method: MMseqs2 if installed, otherwise k-mers."""
    return "mmseqs2" if shutil.which(COMMAND) else "k-mers"


def _find_equal(texts: Sequence[str]) -> Numbers:
    """Return all pairs of indices of equal sequences, (K, 2)."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(text, []).append(row)
    pairs = [pair for same in rows.values() for pair in combinations(same, 2)]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _search_mmseqs(texts: Sequence[str], identity: float) -> Numbers:
    sensitivity = "1" if identity >= 0.9 else "5.7" if identity > 0.3 else "7.5"
    options = ("--min-seq-id", str(identity), "-s", sensitivity)
    rows = _run_mmseqs(texts, texts, options, "qcov,tcov")
    return rows[rows[:, 2:].max(1) >= COVERAGE, :2].astype(np.int64)


def _match_mmseqs(
    queries: Sequence[str], targets: Sequence[str]
) -> tuple[Numbers, NDArray[np.float64]]:
    if any(max(map(len, texts), default=0) < _MMSEQS_LEAST for texts in (queries, targets)):
        return np.empty((0, 2), np.int64), np.empty(0)
    options = ("-s", "7.5", "-e", EXPECT)
    rows = _run_mmseqs(queries, targets, options, "fident,alnlen,qlen,tlen")
    shares = rows[:, 2] * rows[:, 3] / rows[:, 4:].min(1)
    return rows[:, :2].astype(np.int64), np.minimum(shares, 1.0)


def _run_mmseqs(
    queries: Sequence[str], targets: Sequence[str], options: Sequence[str], columns: str
) -> NDArray[np.float64]:
    """Run MMseqs2; return the indices of query and target and `columns` for every alignment."""
    with tempfile.TemporaryDirectory(prefix="mmseqs-") as name:
        folder = Path(name)
        fasta, others, hits = (folder / file for file in ("queries", "targets", "hits.tsv"))
        for file, texts in ((fasta, queries), (others, targets)):
            file.write_text("".join(f">{row}\n{text}\n" for row, text in enumerate(texts)))
        command = [
            *(COMMAND, "easy-search", *map(str, (fasta, others, hits, folder / "work")), "-v", "1"),
            *options,
            *("--max-seqs", str(max(300, len(targets)))),
            *("--format-output", f"query,target,{columns}"),
        ]
        done = run_child(command)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise UserError(
                f"'{COMMAND} easy-search' failed with exit code {done.returncode}"
                f" ({excerpt(words[-1])}); reinstall MMseqs2, or remove it from the PATH to search"
                " for similar sequences by k-mers instead"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file: no sequence is similar
            rows = np.loadtxt(hits, ndmin=2)
        return rows.reshape(-1, 3 + columns.count(","))


def _search_kmers(texts: Sequence[str], identity: float) -> Numbers:
    """Return pairs of sequences with shared seeds and the required identity near one diagonal."""
    residues, lengths = number_residues(texts)
    seed = _LONG_SEED if identity >= _LONG_FROM else _SEED
    a, b, diagonal = _find_candidates(residues, lengths, seed)
    threshold = _LENIENCE * identity
    similar = _estimate_identity(residues, lengths, a, b, diagonal) >= threshold
    return np.stack([a, b], axis=1)[similar]


def _match_kmers(
    queries: Sequence[str], targets: Sequence[str]
) -> tuple[Numbers, NDArray[np.float64]]:
    """Return the query-target pairs with shared seeds near one diagonal, and their identities."""
    residues, lengths = number_residues([*queries, *targets])
    found = np.stack(_find_candidates(residues, lengths, _SEED))
    a, b, diagonal = found[:, (found[0] < len(queries)) & (found[1] >= len(queries))]
    shares = _estimate_identity(residues, lengths, a, b, diagonal)
    return np.stack([a, b - len(queries)], axis=1), shares


def number_residues(texts: Sequence[str]) -> tuple[NDArray[np.int8], Numbers]:
    """Return the concatenated residues of all sequences as numbers (-1 if unusual), and lengths."""
    letters = np.full(256, -1, np.int8)
    letters[np.frombuffer(_LETTERS, np.uint8)] = np.arange(len(_LETTERS))
    residues = letters[np.frombuffer("".join(texts).encode("latin-1", "replace"), np.uint8)]
    return residues, np.array([len(text) for text in texts], np.int64)


def _find_candidates(
    residues: NDArray[np.int8], lengths: Numbers, seed: str
) -> tuple[Numbers, Numbers, Numbers]:
    """Return proteins a < b that share seeds, and the diagonals (place in a - place in b)."""
    codes, protein, place = _list_seeds(residues, lengths, seed)
    keys: list[Numbers] = [np.empty(0, np.int64)]
    for distance in range(1, _MOST_SHARED):
        here = np.flatnonzero(codes[distance:] == codes[:-distance])
        there = here + distance
        # Seeds with the same code are sorted by protein.
        here, there = (rows[protein[here] < protein[there]] for rows in (here, there))
        pair = protein[here] * len(lengths) + protein[there]
        shift = place[here] - place[there] + (1 << (_BITS_DIAGONAL - 1))
        keys.append((pair << _BITS_DIAGONAL) + shift)
    bins, counts = np.unique(np.concatenate(keys) >> _BITS_BIN, return_counts=True)
    bins, counts = bins[counts >= _LEAST_IN_SHORT], counts[counts >= _LEAST_IN_SHORT]
    pair, shift = np.divmod((bins << _BITS_BIN) + (1 << (_BITS_BIN - 1)), 1 << _BITS_DIAGONAL)
    a, b = np.divmod(pair, max(1, len(lengths)))
    short = np.minimum(lengths[a], lengths[b]) < _SHORT
    enough = counts >= np.where(short, _LEAST_IN_SHORT, _LEAST_SEEDS)
    return a[enough], b[enough], shift[enough] - (1 << (_BITS_DIAGONAL - 1))


def _list_seeds(
    residues: NDArray[np.int8], lengths: Numbers, seed: str
) -> tuple[Numbers, Numbers, Numbers]:
    """Return code, protein and position of all seeds that occur repeatedly, sorted by code."""
    offsets = np.flatnonzero(np.frombuffer(seed.encode(), np.uint8) == ord("1"))
    count = max(0, len(residues) - len(seed) + 1)
    windows = np.stack([residues[offset : offset + count] for offset in offsets], axis=1)
    protein = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(residues)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    letters = np.sort(windows, axis=1)
    varied = (letters[:, 1:] != letters[:, :-1]).sum(1) >= 2  # excludes runs such as QQQQQ, GSGSG
    within = protein[:count] == protein[len(residues) - count :]
    rows = np.flatnonzero(varied & within & (letters[:, 0] >= 0))
    codes = windows[rows].astype(np.int64) @ (len(_LETTERS) ** np.arange(len(offsets)))
    order = np.argsort(codes, kind="stable")
    codes, rows = codes[order], rows[order]
    _, sizes = np.unique(codes, return_counts=True)
    shared = np.repeat((sizes > 1) & (sizes <= _MOST_SHARED), sizes)
    return codes[shared], protein[rows[shared]], place[rows[shared]]


def _estimate_identity(
    residues: NDArray[np.int8], lengths: Numbers, a: Numbers, b: Numbers, diagonal: Numbers
) -> NDArray[np.float64]:
    """Estimate the identity of pairs: matches on the best path over the shorter length, (K,).

    The path compares the residues of the shorter sequence in order with the other sequence on any
    diagonal of a band around the given diagonal; each change of diagonal costs `_SWITCH`.
    """
    swap = lengths[a] > lengths[b]
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    diagonal = np.where(swap, -diagonal, diagonal)
    matches = np.zeros(len(a), np.int16)
    order = np.argsort(lengths[a], kind="stable")
    with LongWork("aligning", len(a), "pairs") as work:
        for start in range(0, len(a), _BATCH):
            rows = order[start : start + _BATCH]
            matches[rows] = _align(residues, lengths, a[rows], b[rows], diagonal[rows])
            work.advance(len(rows))
    return matches / lengths[a]


def _align(
    residues: NDArray[np.int8], lengths: Numbers, a: Numbers, b: Numbers, diagonal: Numbers
) -> NDArray[np.int16]:
    """Count identical residues of pairs in which `a` is shorter; see `_estimate_identity`."""
    longest = int(lengths[a].max())
    places = np.arange(longest + 2 * _BAND)[:, None]
    shorter = _gather(residues, lengths, a, places[:longest], -2)
    other = _gather(residues, lengths, b, places - diagonal - _BAND, -3)
    best = np.zeros((2 * _BAND + 1, len(a)), np.int16)
    for place in range(longest):
        best += other[place : place + len(best)] == shorter[place]
        np.maximum(best, best.max(0) - np.int16(_SWITCH), out=best)
    matches: NDArray[np.int16] = best.max(0)
    return matches


def _gather(
    residues: NDArray[np.int8], lengths: Numbers, proteins: Numbers, places: Numbers, filler: int
) -> NDArray[np.int8]:
    """Return the residues at these positions, or the filler beyond the ends of a sequence."""
    starts = (np.cumsum(lengths) - lengths)[proteins]
    inside = (places >= 0) & (places < lengths[proteins])
    found = residues[np.where(inside, starts + places, 0)]
    return np.where(inside, found, np.int8(filler))
