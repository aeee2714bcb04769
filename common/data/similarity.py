"""Which protein sequences are similar, and the groups that they form.

Two sequences are similar at an identity when they are the same, or when a local alignment has at
least that share of identical columns and covers at least 80 % of one of the two (`COVERAGE`).
Covering the shorter one is enough: a fragment is similar to the protein it is from, but two long
proteins that share a small domain are not. Without the coverage, shared domains would chain
thousands of human proteins together.

MMseqs2 finds the pairs, all against all, where `mmseqs` is on the PATH. Otherwise this module
searches by shared k-mers. That is approximate: it misses pairs, more of them at low identities.

`match_sequences` instead measures how similar sequences are to others, however little that is.
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
EXPECT = "10"  # of `match_sequences`: finds distant relatives, and some matches by chance
COMMAND = "mmseqs"

_MMSEQS_LEAST = 14  # residues; MMseqs2 fails if all sequences are shorter
_LETTERS = b"ACDEFGHIKLMNPQRSTVWY"
# The positions that a seed compares: gaps between them find more. At high identities, similar
# proteins share long seeds, which few other proteins do.
_SEED, _LONG_SEED, _LONG_FROM = "110111", "110110111011", 0.6
_MOST_SHARED = 100  # proteins that have a seed; a seed of more proteins says nothing
# Seeds needed near one diagonal to align a pair: in general, and with a sequence below _SHORT.
_LEAST_SEEDS, _LEAST_IN_SHORT, _SHORT = 3, 2, 200
_BITS_DIAGONAL, _BITS_BIN = 18, 5  # 2^17 residues at most; diagonals are searched 32 at a time
_BAND = 48  # diagonals on each side that an alignment may use
_SWITCH = 3  # identical residues that a change of diagonal costs
_BATCH = 1024
# The estimate counts identical residues over the whole shorter sequence and loses those that
# long gaps take out of the band: a pair needs only this part of the required identity.
_LENIENCE = 0.7


@dataclass(frozen=True, eq=False)
class Similarity:
    """The similar pairs among sequences.

    Attributes:
        names: The sequences' ids.
        pairs: (K, 2) row numbers of similar ones, the smaller first, distinct.
        method: How they were found.
    """

    names: tuple[str, ...]
    pairs: Numbers
    method: Method

    def groups(self) -> Numbers:
        """(N,) the group of each sequence: single linkage, so no similar pair is in two groups."""
        count = len(self.names)
        links = coo_matrix((np.ones(len(self.pairs)), self.pairs.T), shape=(count, count))
        groups: Numbers = connected_components(links, directed=False)[1].astype(np.int64)
        return groups


@dataclass(frozen=True, eq=False)
class Matches:
    """Which of some sequences resemble which of others, and how much.

    Attributes:
        pairs: (K, 2) row number of a query and of a target, distinct, sorted.
        shares: (K,) identical residues of their alignment over the length of the shorter one,
            above 0, at most 1.
        method: How they were found.
    """

    pairs: Numbers
    shares: NDArray[np.float64]
    method: Method


def find_similar(
    sequences: Mapping[str, str], identity: float, method: Method | None = None
) -> Similarity:
    """Return the pairs of sequences that are similar at an identity.

    Args:
        sequences: By id.
        identity: Share of identical residues, above 0, at most 1.
        method: None takes MMseqs2 where it is installed.

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
    """Compare every query with every target, without a minimum identity or coverage.

    Equal sequences always match. What else does is a local alignment with an expect value of at
    most `EXPECT` (MMseqs2), or two sequences that share seeds near one diagonal (k-mers).

    Args:
        queries: Sequences.
        targets: Those that they are compared with.
        method: None takes MMseqs2 where it is installed.

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
    # The best alignment of a pair comes first, and the others are dropped.
    order = np.argsort(-shares, kind="stable")
    distinct, first = np.unique(pairs[order], axis=0, return_index=True)
    return Matches(distinct, shares[order][first], method)


def best_method() -> Method:
    """MMseqs2 where it is installed, otherwise k-mers."""
    return "mmseqs2" if shutil.which(COMMAND) else "k-mers"


def _find_equal(texts: Sequence[str]) -> Numbers:
    """Return all pairs of the same sequence."""
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
    """For every alignment found, the row numbers of query and target, and these columns."""
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
                f" ({excerpt(words[-1])}); repair MMseqs2, or take it off the PATH so that similar"
                " sequences are searched by k-mers"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about an empty file: nothing is similar
            rows = np.loadtxt(hits, ndmin=2)
        return rows.reshape(-1, 3 + columns.count(","))


def _search_kmers(texts: Sequence[str], identity: float) -> Numbers:
    """Return the pairs with common seeds near one diagonal and enough identical residues there."""
    residues, lengths = number_residues(texts)
    seed = _LONG_SEED if identity >= _LONG_FROM else _SEED
    a, b, diagonal = _find_candidates(residues, lengths, seed)
    threshold = _LENIENCE * identity
    similar = _estimate_identity(residues, lengths, a, b, diagonal) >= threshold
    return np.stack([a, b], axis=1)[similar]


def _match_kmers(
    queries: Sequence[str], targets: Sequence[str]
) -> tuple[Numbers, NDArray[np.float64]]:
    """Queries and targets that share seeds near one diagonal."""
    residues, lengths = number_residues([*queries, *targets])
    found = np.stack(_find_candidates(residues, lengths, _SEED))
    a, b, diagonal = found[:, (found[0] < len(queries)) & (found[1] >= len(queries))]
    shares = _estimate_identity(residues, lengths, a, b, diagonal)
    return np.stack([a, b - len(queries)], axis=1), shares


def number_residues(texts: Sequence[str]) -> tuple[NDArray[np.int8], Numbers]:
    """Return the residues of all sequences end to end (-1 if unusual), and the lengths."""
    letters = np.full(256, -1, np.int8)
    letters[np.frombuffer(_LETTERS, np.uint8)] = np.arange(len(_LETTERS))
    residues = letters[np.frombuffer("".join(texts).encode("latin-1", "replace"), np.uint8)]
    return residues, np.array([len(text) for text in texts], np.int64)


def _find_candidates(
    residues: NDArray[np.int8], lengths: Numbers, seed: str
) -> tuple[Numbers, Numbers, Numbers]:
    """Proteins a < b that share seeds, and the seeds' diagonal (place in a minus place in b)."""
    codes, protein, place = _list_seeds(residues, lengths, seed)
    keys: list[Numbers] = [np.empty(0, np.int64)]
    for distance in range(1, _MOST_SHARED):
        here = np.flatnonzero(codes[distance:] == codes[:-distance])
        there = here + distance
        # Seeds of a code are sorted by protein.
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
    """Code, protein and position of every seed that occurs more than once, sorted."""
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
    """Identical residues along the best path near a diagonal, over the shorter sequence's length.

    The path takes one residue of the shorter sequence after the other, against the other sequence
    on any diagonal of the band; each change of diagonal costs `_SWITCH`.
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
    """Identical residues of some pairs, a being the shorter one; see `_estimate_identity`."""
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
    """Residues at these positions, or the filler (no residue) beyond a sequence's end."""
    starts = (np.cumsum(lengths) - lengths)[proteins]
    inside = (places >= 0) & (places < lengths[proteins])
    found = residues[np.where(inside, starts + places, 0)]
    return np.where(inside, found, np.int8(filler))
