"""The user's request for a network of own proteins, checked before any slow import."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from common.config import PrefilterConfig
from common.errors import UserError
from common.evaluation.export.base import check_output
from common.inference.rounding import lowest_written
from common.inference.wish import Wish


@dataclass(frozen=True)
class Request:
    """The user's request, as the command line makes it.

    Attributes:
        fastas: The FASTA files; with two, the proteins of one are paired with those of the other.
        output: The file to write.
        pairs: The file of listed pairs, if any.
        query: Ids or a file of ids, if any.
        wish: Which of the scored pairs are written.
        skip_unknown: Whether unknown proteins are left out.
        self_pairs: Whether proteins are paired with themselves.
        plot: The picture to draw, if any.
        share: The share of the pairs that the prefilter keeps, if a share is given.
    """

    fastas: tuple[Path, ...]
    output: Path
    pairs: Path | None
    query: str | None
    wish: Wish
    skip_unknown: bool
    self_pairs: bool
    plot: Path | None
    share: float | None = None

    def check_prefilter(self, settings: PrefilterConfig) -> None:
        """Reject a request that a prefilter cannot serve.

        Raises:
            UserError: The pairs are listed, or more pairs are wanted than the prefilter keeps.
        """
        self.wish.check_prefilter(settings)
        if settings.checkpoint is None and self.share is not None:
            raise UserError(
                "--share is the share that a prefilter leaves; give --prefilter DIR too"
            )
        if settings.checkpoint is not None and self.pairs is not None:
            raise UserError(
                "a prefilter ranks all pairs of proteins, and --pairs lists those to score; leave"
                " out one of the two (a prefilter of the configuration with --set"
                " evaluate.scoring.prefilter.checkpoint=null)"
            )

    @classmethod
    def of(cls, arguments: Namespace) -> Self:
        """Make the request from the command line's arguments.

        Raises:
            UserError: Options contradict one another, or the output cannot be written.
        """
        chosen = [name for name in ("pairs", "query", "bipartite") if getattr(arguments, name)]
        if len(chosen) > 1:
            raise UserError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
        wanted = 2 if arguments.bipartite else 1
        if len(arguments.fasta) != wanted:
            raise UserError(
                f"--fasta was given {len(arguments.fasta)} times; give it twice with --bipartite"
                " (the first file against the second), and once otherwise"
            )
        threshold = None if arguments.threshold is None else lowest_written(arguments.threshold)
        wish = Wish(arguments.top_k, threshold, arguments.density)
        fastas, output = tuple(map(Path, arguments.fasta)), Path(arguments.output)
        pairs, query, plot = arguments.pairs, arguments.query, arguments.plot
        inputs = [*fastas, *map(Path, filter(None, (pairs, query)))]
        check_output(output, inputs)
        if plot:
            check_output(Path(plot), [*inputs, output], "--plot")
        return cls(
            fastas,
            output,
            Path(pairs) if pairs else None,
            query,
            wish,
            arguments.skip_unknown,
            arguments.self_pairs,
            Path(plot) if plot else None,
            arguments.share,
        )
