"""Score pairs of your own proteins with a checkpoint, from Python.

    from common.inference.predictor import Predictor

    predictor = Predictor.load("best_model")
    predictor.score([("P1", "P2")], {"P1": "MKV…", "P2": "MSE…"})     # array of probabilities
    predictor.network(sequences, top_k=10)                            # networkx.Graph

`evaluate.py --fasta` runs the same code, and streams the scored pairs to a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import xxhash
from accelerate import Accelerator
from numpy.typing import NDArray

from common.config import Config
from common.data.batches import PairData
from common.data.embeddings.build import prepare_store
from common.data.splits import read_for_model
from common.data.tables.ids import places_of
from common.data.tables.pairs import PairTable
from common.errors import UserError, excerpt
from common.inference.calibration import Calibration
from common.inference.cascade import Shortlist, choose_pairs
from common.inference.checkpoints import Checkpoint, load_checkpoint
from common.inference.compatibility import check_same_embeddings, check_same_language_model
from common.inference.deciding import choose_calibration, choose_threshold
from common.inference.grid_scoring import ScoredPairs, score_grid
from common.inference.hub import fetch_checkpoint
from common.inference.own_config import leave_to_prefilter, load_own_config
from common.inference.pair_grid import PairGrid
from common.inference.partial_scores import PartialScores, Scores, identify_model
from common.inference.score_journal import ScoreJournal
from common.inference.scoring import probabilities, score_pairs
from common.inference.scoring_job import ScoringJob
from common.inference.selection import Selection, select_of_grid
from common.inference.thresholds import call_pairs
from common.inference.wish import Wish
from common.launch import start_accelerator
from common.run import LOGGER, format_event

if TYPE_CHECKING:
    import networkx as nx

DESCRIBE = "scoring"


class Embedded(NamedTuple):
    """The user's proteins with their embeddings.

    Attributes:
        data: The proteins, sorted by id, without pairs.
        identity: A digest of everything that their embeddings depend on.
        prefilter: The same proteins with the prefilter's embeddings, if there is a prefilter.
    """

    data: PairData
    identity: bytes
    prefilter: Embedded | None = None


@dataclass(frozen=True)
class Predictor:
    """A checkpoint that is ready to score pairs of any proteins.

    Attributes:
        checkpoint: The model, on the accelerator's device, and what is known about its training.
        config: The configuration of its training with the user's changes.
        accelerator: The processes; all of them call the same methods.
        threshold: The lowest probability that is called an interaction.
        calibration: Converts the model's probabilities to those of all pairs of new proteins.
        prefilter: The fast model that chooses which pairs of a grid are scored, if there is one.
    """

    checkpoint: Checkpoint
    config: Config
    accelerator: Accelerator
    threshold: float
    calibration: Calibration | None = None
    prefilter: Predictor | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        overrides: Sequence[str] = (),
        accelerator: Accelerator | None = None,
        *,
        revision: str | None = None,
    ) -> Self:
        """Load a best_model directory, or a checkpoint from the Hugging Face hub.

        Args:
            path: The directory, or else `user/repo` or `user/repo@revision` on the hub.
            overrides: Changes of the configuration, such as
                `data_config.embeddings.cache_dir=/scratch/cache`.
            accelerator: The processes, the device and the precision; by default what
                `accelerate launch` has set up, or else this process alone.
            revision: A branch, a tag or a commit on the hub.

        Raises:
            UserError: The checkpoint is missing or damaged, or a change contradicts training.
        """
        directory = fetch_checkpoint(path, revision)
        config = load_own_config(directory, overrides)
        accelerator = accelerator or start_accelerator(config)
        checkpoint = load_checkpoint(directory)
        check_same_embeddings(checkpoint, config)
        calibration = choose_calibration(checkpoint, config)
        threshold = choose_threshold(checkpoint, config, overrides, calibration)
        checkpoint.model.to(accelerator.device)
        named = config.evaluate.scoring.prefilter.checkpoint
        fast = (
            None if named is None else cls.load(named, leave_to_prefilter(overrides), accelerator)
        )
        return cls(checkpoint, config, accelerator, threshold, calibration, fast)

    def score(
        self, pairs: Sequence[tuple[str, str]], sequences: Mapping[str, str]
    ) -> NDArray[np.float64]:
        """Return the probabilities (N,) that the two proteins of each pair interact.

        Args:
            pairs: Ids of proteins, in either order; pairs may repeat.
            sequences: The sequence of every protein, by id.

        Raises:
            UserError: A protein has no sequence.
        """
        if not len(pairs):
            return np.empty(0)
        ids = tuple(sorted({name for pair in pairs for name in pair}))
        _check_known(ids, sequences)
        numbers = places_of([name for pair in pairs for name in pair], ids).reshape(-1, 2)
        proteins = self.embed({name: sequences[name] for name in ids})
        return probabilities(self.score_list(proteins, numbers))

    def network(
        self,
        sequences: Mapping[str, str],
        *,
        queries: Sequence[str] | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        density: float | None = None,
        self_pairs: bool = False,
    ) -> nx.Graph:
        """Predict an interaction network, whose edges have the attributes `probability` and `call`.

        `call` is 1 if the probability reaches the checkpoint's threshold, and 0 otherwise.

        Args:
            sequences: The sequences of all proteins, by id.
            queries: The proteins to pair with all proteins; by default all.
            top_k: The number of best partners to keep for each protein (or query, if given).
            threshold: The lowest probability of an edge.
            density: The fraction of the pairs to keep, best first. Without any of these limits,
                the edges are the pairs that reach the checkpoint's threshold.
            self_pairs: Whether a protein is paired with itself as well.

        Returns:
            A graph of all proteins, or of those with an edge and the queries.

        Raises:
            UserError: A query has no sequence, or the limits contradict one another.
        """
        # Imported here: evaluate.py streams to files and does not need networkx.
        import networkx as nx

        wish = Wish(top_k, threshold, density)
        if wish.is_open:
            wish = Wish(threshold=self.threshold)
        wish.check_prefilter(self.config.evaluate.scoring.prefilter)
        _check_known(queries or (), sequences)
        proteins = self.embed(sequences)
        ids = proteins.data.table.proteins
        every = np.arange(len(ids), dtype=np.int64)
        rows = every if queries is None else places_of(dict.fromkeys(queries), ids)
        grid = PairGrid(len(ids), rows, every, self_pairs)
        graph = nx.Graph()
        graph.add_nodes_from(ids[row] for row in rows)
        shortlist = self.shortlist(proteins, grid)
        for pairs in self.stream(proteins, grid, select_of_grid(wish, grid), shortlist):
            scores = probabilities(pairs.logits)
            calls = call_pairs(scores, self.threshold)
            columns = (part.tolist() for part in (*pairs[:2], scores, calls))
            for a, b, score, call in zip(*columns, strict=True):
                graph.add_edge(ids[a], ids[b], probability=score, call=int(call))
        return graph

    def embed(self, sequences: Mapping[str, str]) -> Embedded:
        """Compute the embeddings of proteins with the settings of the checkpoint's training.

        Raises:
            UserError: The language model differs from that of the training.
        """
        settings = self.config.data
        store = prepare_store(
            sequences, settings.embeddings, settings.max_sequence_length, self.accelerator
        )
        check_same_language_model(self.checkpoint, self.config, store)
        none = np.empty((0, 2), np.int64), np.empty(0, np.int8)
        table = PairTable(tuple(sorted(sequences)), *none)
        data = PairData(table, read_for_model(store, self.checkpoint.config, self.accelerator))
        # The language model and these settings identify a cache, the sequence an embedding in it.
        how = settings.embeddings
        made = (how.dtype, how.layer, how.long, settings.max_sequence_length)
        digest = xxhash.xxh3_128(repr((store.language_model, made)).encode())
        for name in table.proteins:
            digest.update(f"{name}\t{sequences[name]}\n".encode())
        fast = None if self.prefilter is None else self.prefilter.embed(sequences)
        return Embedded(data, digest.digest(), fast)

    def score_list(
        self,
        proteins: Embedded,
        pairs: NDArray[np.int64],
        partial: PartialScores | None = None,
    ) -> NDArray[np.float32]:
        """Compute logits (N,) of a list of pairs (N, 2) on every process, calibrated as configured.

        Args:
            proteins: The proteins that the numbers in `pairs` stand for.
            pairs: The pairs.
            partial: Where finished scores are saved, from which the same scoring can be resumed.
        """
        table = PairTable(proteins.data.table.proteins, pairs, np.zeros(len(pairs), np.int8))
        data = proteins.data.with_table(table)
        settings = self.config.evaluate.scoring
        model, accelerator = self.checkpoint.model, self.accelerator
        return self.calibrate(score_pairs(model, data, settings, accelerator, DESCRIBE, partial))

    def calibrate(self, logits: Scores) -> Scores:
        """Convert logits to calibrated logits; without a calibration, return logits unchanged."""
        return logits if self.calibration is None else self.calibration.move_logits(logits)

    def shortlist(
        self, proteins: Embedded, grid: PairGrid, folder: Path | None = None
    ) -> Shortlist | None:
        """Choose pairs with the prefilter, and log its recall; return None without a prefilter.

        Args:
            proteins: The proteins that the grid's numbers stand for.
            grid: All pairs.
            folder: Where finished scores are saved, from which the same scoring can be resumed.
        """
        fast, embedded = self.prefilter, proteins.prefilter
        if fast is None or embedded is None or not grid.count:
            return None
        settings, seed = self.config.evaluate.scoring.prefilter, self.config.run.seed
        ranked = fast.score_all(embedded, grid, folder, "ranking")
        found = choose_pairs(ranked, grid.count, settings, seed, self.accelerator)
        found = found.measure(self.score_list(proteins, found.sample, self._partial(folder)))
        LOGGER.info(format_event("prefiltered", says=found.describe()))
        return found

    def stream(
        self,
        proteins: Embedded,
        grid: PairGrid,
        selection: Selection,
        shortlist: Shortlist | None = None,
        folder: Path | None = None,
    ) -> Iterator[ScoredPairs]:
        """Score the pairs of a grid, and yield the selected pairs on the main process.

        Args:
            proteins: The proteins that the grid's numbers stand for.
            grid: The pairs.
            selection: Which of the pairs are yielded.
            shortlist: The only pairs that are scored, if there is a prefilter.
            folder: Where finished scores are saved, from which the same scoring can be resumed.
        """
        if shortlist is None:
            scored = self.score_all(proteins, grid, folder)
        else:
            logits = self.score_list(proteins, shortlist.pairs, self._partial(folder))
            main = self.accelerator.is_main_process
            scored = shortlist.split(logits, grid) if main else iter(())
        for pairs in scored:
            yield from selection.take(pairs)
        yield from selection.finish()

    def score_all(
        self, proteins: Embedded, grid: PairGrid, folder: Path | None, describe: str = DESCRIBE
    ) -> Iterator[ScoredPairs]:
        """Score all pairs of a grid, and yield the pairs in stripes on the main process.

        Args:
            proteins: The proteins that the grid's numbers stand for.
            grid: The pairs.
            folder: Where finished stripes are saved, from which the same scoring can be resumed.
            describe: The name of the work in progress bars and `progress` events.
        """
        settings = self.config.evaluate.scoring
        model, accelerator = self.checkpoint.model, self.accelerator
        job = ScoringJob(model, proteins.data, settings, accelerator, describe)
        journal = ScoreJournal()
        if folder is not None:
            journal = ScoreJournal.open(folder, _identify(job, proteins, grid), accelerator)
        for pairs in score_grid(job, grid, journal):
            yield pairs._replace(logits=self.calibrate(pairs.logits))

    def _partial(self, folder: Path | None) -> PartialScores | None:
        return None if folder is None else PartialScores(folder, self.accelerator)


def _check_known(names: Sequence[str], sequences: Mapping[str, str]) -> None:
    unknown = [name for name in names if name not in sequences]
    if unknown:
        raise UserError(
            f"{len(unknown)} of {len(names)} proteins have no sequence, such as"
            f" '{excerpt(unknown[0])}'; add their sequences, or leave these proteins out"
        )


def _identify(job: ScoringJob, proteins: Embedded, grid: PairGrid) -> str:
    """Compute a digest of everything that the scores of a grid and their order depend on."""
    digest = xxhash.xxh3_128(identify_model(job) + proteins.identity)
    for numbers in (grid.rows, grid.columns):
        digest.update(numbers.tobytes() + b"|")
    digest.update(bytes([grid.with_self]))
    return str(digest.hexdigest())
