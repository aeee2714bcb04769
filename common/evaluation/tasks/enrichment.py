"""Find the GO terms that are enriched in a set of proteins, offline or with g:Profiler.

PRING compares the terms that g:Profiler finds in a predicted and in the matching true module
(`enrichment_analysis/eval.py`, github.com/SophieSarceau/PRING). g:Profiler is an online service
whose data change with time, so the default here is an offline test on the annotations in the
benchmark's files. `GProfiler` uses the service, which gives PRING's metric. The tests differ in

- the background: offline the annotated proteins of the test network, online all annotated genes;
- the annotations: offline only the terms in the file, online also all ancestors of these terms;
- the correction for multiple tests: offline Benjamini-Hochberg, online g:SCS of g:Profiler.
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
# g:Profiler's names for the benchmark's species.
ORGANISMS = {"human": "hsapiens", "yeast": "scerevisiae", "arath": "athaliana"}
GPROFILER_URL = "https://biit.cs.ut.ee/gprofiler/api/gost/profile/"


class Enrichment(Protocol):
    """The interface of an enrichment test, which finds the GO terms enriched among proteins."""

    @property
    def name(self) -> str:
        """The name of the test in the results."""
        ...

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Return the GO terms that are enriched among the proteins, or an empty set."""
        ...


@dataclass(frozen=True, eq=False)
class Annotations:
    """The GO terms of a network's proteins, in one aspect of the ontology.

    Attributes:
        proteins: The protein ids of the network.
        terms: All terms with which any of the proteins is annotated, sorted.
        pairs: (A, 2) int64 indices into `proteins` and `terms`, one row for each annotation.
    """

    proteins: tuple[str, ...]
    terms: tuple[str, ...]
    pairs: IntArray

    @classmethod
    def of(cls, proteins: Sequence[str], go_terms: GoTerms, source: str = "GO:BP") -> Annotations:
        """Collect the proteins' terms of one source (aspect); unknown proteins have no terms.

        Raises:
            UserError: The source is unknown, or no protein has a term.
        """
        if source not in ASPECTS:
            raise UserError(f"GO source '{source}' is unknown; choose one of {', '.join(ASPECTS)}")
        own = [sorted(set(go_terms.get(name, {}).get(ASPECTS[source], ()))) for name in proteins]
        terms = tuple(sorted({term for listed in own for term in listed}))
        if not terms:
            raise UserError(
                f"no protein of the test graph has a {source} term; use the GO terms of the same"
                " species and split"
            )
        rows = np.repeat(np.arange(len(own)), [len(listed) for listed in own])
        columns = places_of([term for listed in own for term in listed], terms)
        return cls(tuple(proteins), terms, np.stack([rows, columns], axis=1))

    @cached_property
    def matrix(self) -> Any:
        """The annotations as a scipy CSR array, (N, T) int64, with 1 where a protein has a term."""
        # Imported here because this import takes about a second.
        from scipy.sparse import csr_array

        ones = np.ones(len(self.pairs), dtype=np.int64)
        return csr_array((ones, tuple(self.pairs.T)), shape=(len(self.proteins), len(self.terms)))

    @cached_property
    def annotated(self) -> NDArray[np.bool_]:
        """A mask (N,) of the proteins that have any term."""
        return np.isin(np.arange(len(self.proteins)), self.pairs[:, 0])

    def mean_similarity(self, members: Collection[int]) -> float:
        """Compute the mean Jaccard similarity of term sets over all pairs that share a term.

        Args:
            members: The proteins to pair with each other, as indices into `proteins`.

        Returns:
            The mean, or 0 if no two members share a term.
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
    """Tests each GO term with a one-sided hypergeometric test, at a false discovery rate of 0.05.

    If k of the n annotated proteins in the set and K of the N annotated proteins in the network
    have a term, then p = P(X >= k) for X ~ Hypergeometric(N, K, n). For every set, all terms that
    at least two proteins of the network have are tested. The correction is Benjamini-Hochberg's.
    """

    name = "hypergeometric test on the benchmark's GO terms, Benjamini-Hochberg at 0.05"

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self.carriers = annotations.matrix.sum(axis=0)  # of each term, (T,)

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Return the enriched terms, ignoring proteins without terms or outside the network."""
        # Imported here because this import takes about a second.
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
    """Return which hypotheses are rejected at an FDR of 0.05 (Benjamini and Hochberg, 1995)."""
    # Imported here because this import takes about a second.
    from scipy.stats import false_discovery_control

    rejected: NDArray[np.bool_] = false_discovery_control(p_values, method="bh") <= SIGNIFICANCE
    return rejected


@dataclass(frozen=True)
class GProfiler:
    """Queries the g:Profiler service (biit.cs.ut.ee/gprofiler) once for each set of proteins.

    Attributes:
        source: GO:BP, GO:MF or GO:CC.
        organism: The service's name for the species.
        url: The address of the service for g:GOSt queries.
        timeout: The time to wait for a response, in seconds.
    """

    source: str = "GO:BP"
    organism: str = "hsapiens"
    url: str = GPROFILER_URL
    timeout: float = 120.0

    name = "g:Profiler, g:SCS at 0.05"

    @classmethod
    def of_species(cls, species: str) -> Self:
        """Create a client for queries about a species of the benchmark.

        Raises:
            UserError: The service cannot be used for the species.
        """
        if species not in ORGANISMS:
            raise UserError(
                f"g:Profiler can only be used for the species {', '.join(ORGANISMS)}, not for"
                f" '{species}'; set evaluate.enrichment to offline"
            )
        return cls(organism=ORGANISMS[species])

    def __call__(self, proteins: Collection[str]) -> frozenset[str]:
        """Return the terms that the service reports as significant.

        Raises:
            UserError: The service cannot be reached, or the response has an unexpected format.
        """
        try:
            with urllib.request.urlopen(self._request(proteins), timeout=self.timeout) as answer:
                found = json.load(answer)["result"]
            return frozenset(row["native"] for row in found if row["p_value"] <= SIGNIFICANCE)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            # A refused connection, an HTTP error, a truncated response, or unexpected JSON.
            raise UserError(
                f"g:Profiler at {self.url} gave no valid response ({error}); try again later"
                " (finished scores are kept), or set evaluate.enrichment to offline"
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
