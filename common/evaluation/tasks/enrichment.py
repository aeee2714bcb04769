"""Find the GO terms that are enriched in a set of proteins, offline or with g:Profiler.

PRING compares the terms that g:Profiler finds in a predicted and in the matching true module
(`enrichment_analysis/eval.py`, github.com/SophieSarceau/PRING). That needs an online service
whose data change with time, so the default here is a test on the benchmark's own annotations.
`GProfiler` asks the service, for the benchmark's own metric. The two tests differ in

- the background: offline the annotated proteins of the test network, online all annotated genes;
- the annotations: offline those of the file alone, online each also counts for a term's ancestors;
- the correction: offline Benjamini-Hochberg, online g:Profiler's own g:SCS.
"""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from common.data.tables.ids import places_of
from common.errors import UserError
from common.evaluation.networks import FloatArray, IntArray

GoTerms = Mapping[str, Mapping[str, Collection[str]]]
ASPECTS = {"GO:BP": "go_p", "GO:MF": "go_f", "GO:CC": "go_c"}
SIGNIFICANCE = 0.05
# Species of the benchmark, and their names at g:Profiler.
ORGANISMS = {"human": "hsapiens", "yeast": "scerevisiae", "arath": "athaliana"}
GPROFILER_URL = "https://biit.cs.ut.ee/gprofiler/api/gost/profile/"


class Enrichment(Protocol):
    """Finds the terms that are enriched in a set of proteins."""

    @property
    def name(self) -> str:
        """The name of the test, as results show it."""
        ...

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Find the enriched terms; none if the proteins have nothing in common."""
        ...


@dataclass(frozen=True, eq=False)
class Annotations:
    """GO terms of the proteins of a network, in one aspect.

    Attributes:
        proteins: The network's protein ids.
        terms: The terms that any of them has, sorted.
        pairs: (A, 2) int64 indices into `proteins` and `terms`: which protein has which term.
    """

    proteins: tuple[str, ...]
    terms: tuple[str, ...]
    pairs: IntArray

    @classmethod
    def of(cls, proteins: Sequence[str], go_terms: GoTerms, source: str = "GO:BP") -> Annotations:
        """Collect the terms of one source; proteins that the table lacks have none.

        Raises:
            UserError: The source is unknown, or no protein has a term.
        """
        if source not in ASPECTS:
            raise UserError(f"GO source '{source}' is unknown: choose one of {', '.join(ASPECTS)}")
        own = [sorted(set(go_terms.get(name, {}).get(ASPECTS[source], ()))) for name in proteins]
        terms = tuple(sorted({term for listed in own for term in listed}))
        if not terms:
            raise UserError(
                f"no protein of the test graph has a {source} term: use the GO terms of the same"
                " species and split"
            )
        rows = np.repeat(np.arange(len(own)), [len(listed) for listed in own])
        columns = places_of([term for listed in own for term in listed], terms)
        return cls(tuple(proteins), terms, np.stack([rows, columns], axis=1))

    @cached_property
    def matrix(self) -> Any:
        """The (N, T) scipy CSR array of zeros and ones, int64."""
        # Imported when needed: it takes about a second.
        from scipy.sparse import csr_array

        ones = np.ones(len(self.pairs), dtype=np.int64)
        return csr_array((ones, tuple(self.pairs.T)), shape=(len(self.proteins), len(self.terms)))

    @cached_property
    def annotated(self) -> NDArray[np.bool_]:
        """Which proteins have a term, (N,)."""
        return np.isin(np.arange(len(self.proteins)), self.pairs[:, 0])

    def mean_similarity(self, members: Collection[int]) -> float:
        """Average the Jaccard similarity of term sets over pairs of members that share a term.

        Args:
            members: Indices into `proteins`.

        Returns:
            The mean, 0 if no two members share a term.
        """
        rows = self.matrix[sorted(members)]
        shared = np.triu((rows @ rows.T).toarray(), k=1)
        sizes = rows.sum(axis=1)
        first, second = np.nonzero(shared)
        if not len(first):
            return 0.0
        common = shared[first, second]
        return float((common / (sizes[first] + sizes[second] - common)).mean())


class OfflineEnrichment:
    """A one-sided hypergeometric test per term, with Benjamini-Hochberg correction, at 0.05.

    For a set with k of its n annotated proteins carrying a term that K of the N annotated proteins
    of the network carry, p = P(X >= k) for X ~ Hypergeometric(N, K, n). Tested are the terms that
    at least two proteins of the network carry, the same for every set.
    """

    name = "hypergeometric test on the benchmark's GO terms, Benjamini-Hochberg at 0.05"

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.carriers = annotations.matrix.sum(axis=0)  # of each term, (T,)

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Find the enriched terms; proteins outside the network or without a term do not count."""
        # Imported when needed: it takes about a second.
        from scipy.stats import hypergeom

        table = self.annotations
        drawn = np.isin(table.proteins, list(proteins)) & table.annotated
        tested = np.flatnonzero(self.carriers >= 2)
        if not drawn.any() or not len(tested):
            return frozenset()
        found, carriers = table.matrix[drawn].sum(axis=0)[tested], self.carriers[tested]
        p_values = hypergeom.sf(found - 1, table.annotated.sum(), carriers, drawn.sum())
        return frozenset(table.terms[i] for i in tested[_significant(p_values)])


def _significant(p_values: FloatArray) -> NDArray[np.bool_]:
    """Mark the hypotheses that Benjamini and Hochberg (1995) reject at an FDR of 0.05."""
    # Imported when needed: it takes about a second.
    from scipy.stats import false_discovery_control

    rejected: NDArray[np.bool_] = false_discovery_control(p_values, method="bh") <= SIGNIFICANCE
    return rejected


@dataclass(frozen=True)
class GProfiler:
    """Asks the g:Profiler service (biit.cs.ut.ee/gprofiler) once per set of proteins.

    Attributes:
        source: GO:BP, GO:MF or GO:CC.
        organism: The service's name of the species.
        url: The address of the service for g:GOSt queries.
        timeout: Seconds to wait for an answer.
    """

    source: str = "GO:BP"
    organism: str = "hsapiens"
    url: str = GPROFILER_URL
    timeout: float = 120.0

    name = "g:Profiler, g:SCS at 0.05"

    @classmethod
    def of_species(cls, species: str) -> Self:
        """Prepare to ask the service about a species of the benchmark.

        Raises:
            UserError: The service cannot be used for the species.
        """
        if species not in ORGANISMS:
            raise UserError(
                f"g:Profiler can be used here only for {', '.join(ORGANISMS)}, not for '{species}';"
                " set evaluate.enrichment: offline"
            )
        return cls(organism=ORGANISMS[species])

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Return the terms that the service calls significant.

        Raises:
            UserError: The service cannot be reached or its answer has another form.
        """
        try:
            with urllib.request.urlopen(self._request(proteins), timeout=self.timeout) as answer:
                found = json.load(answer)["result"]
            return frozenset(row["native"] for row in found if row["p_value"] <= SIGNIFICANCE)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            # A refused connection, an HTTP error, a truncated answer, or JSON of another shape.
            raise UserError(
                f"g:Profiler at {self.url} gave no answer that can be used ({error}): try again"
                " later (finished scores are kept), or set evaluate.enrichment: offline"
            ) from None

    def _request(self, proteins: Collection[str]) -> urllib.request.Request:
        query = {
            "organism": self.organism,
            "query": sorted(set(proteins)),
            "sources": [self.source],
            "user_threshold": SIGNIFICANCE,
            "significance_threshold_method": "g_SCS",
            "domain_scope": "annotated",
            "no_evidences": True,
            "output": "json",
        }
        headers = {"Content-Type": "application/json", "User-Agent": "relic-ppi"}
        return urllib.request.Request(self.url, json.dumps(query).encode(), headers)
