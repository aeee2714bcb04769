"""Read the request for a network of the user's own proteins, and check it without slow imports."""

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
    """A request for a network of the user's own proteins, as given on the command line.

    Attributes:
        fastas: One FASTA file, or two files whose proteins are paired with each other.
        output: The file to write.
        pairs: The file of listed pairs, if given.
        query: The ids of query proteins, or a file of ids, if given.
        wish: The criteria by which scored pairs are selected for writing.
        skip_unknown: Whether to leave out unknown proteins.
        self_pairs: Whether to pair each protein with itself, too.
        plot: The PNG file of the network's drawing, if requested.
        share: The fraction of pairs that the prefilter keeps, if given.
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
        """Reject a request that contradicts the settings of the prefilter.

        Raises:
            UserError: The pairs are listed, more pairs are requested than the prefilter keeps, or
                `share` is given without a prefilter.
        """
        self.wish.check_prefilter(settings)
        if settings.checkpoint is None and self.share is not None:
            raise UserError(
                "--share has no effect without a prefilter; give --prefilter DIR, or remove --share"
            )
        if settings.checkpoint is not None and self.pairs is not None:
            raise UserError(
                "--pairs cannot be combined with a prefilter, which ranks all pairs of proteins;"
                " remove --pairs or the prefilter (if the configuration names the prefilter, add"
                " --set evaluate.scoring.prefilter.checkpoint=null)"
            )

    @classmethod
    def of(cls, arguments: Namespace) -> Self:
        """Create a request from parsed command-line arguments.

        Raises:
            UserError: Options contradict each other, or the output cannot be written.
        """
        chosen = [name for name in ("pairs", "query", "bipartite") if getattr(arguments, name)]
        if len(chosen) > 1:
            raise UserError(
                f"--{chosen[0]} and --{chosen[1]} cannot be combined; remove one of these options"
            )
        wanted = 2 if arguments.bipartite else 1
        if len(arguments.fasta) != wanted:
            raise UserError(
                f"the number of --fasta options is {len(arguments.fasta)}; give --fasta twice with"
                " --bipartite (the first file against the second), and once without --bipartite"
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
