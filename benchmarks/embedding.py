"""Compare the speed of embedding in our batches, in file order, and one sequence at a time.

    python -m benchmarks.embedding [--proteins 64] [--runs 3] [--output FILE.json]
    OMP_NUM_THREADS=1 python -m benchmarks.embedding

A randomly initialised ESM-2 of the shape of the smallest released one (6 layers, 320 wide, 20
heads) embeds proteins of human lengths. `file order` is the naive pipeline: batches of 16 sequences
as they come, padded to the longest; `ours` sorts by length and fills a budget of tokens, for
several budgets; `one by one` pads nothing. Every run times all of them in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import EsmConfig, EsmModel, EsmTokenizer

from benchmarks.workload import Row, draw_lengths, run_benchmark, take_time
from common.data.embeddings.language_model import LanguageModel, ResidueTokens
from common.data.embeddings.plan import make_requests, plan_batches

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
TOKENS = ["<cls>", "<pad>", "<eos>", "<unk>", *RESIDUES, "<mask>"]
FILE_ORDER_BATCH = 16
BUDGETS = (1024, 2048, 4096, 8192, 16384)


def make_language_model(layers: int, width: int, heads: int, device: torch.device) -> LanguageModel:
    """Create a language model of ESM-2's kind and these sizes, with random weights."""
    config = EsmConfig(
        vocab_size=len(TOKENS),
        pad_token_id=TOKENS.index("<pad>"),
        mask_token_id=TOKENS.index("<mask>"),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
    )
    with TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(TOKENS))
        tokens = ResidueTokens(EsmTokenizer(str(vocabulary)), "the benchmark's model")
    torch.manual_seed(0)
    return LanguageModel(EsmModel(config, add_pooling_layer=False).eval().to(device), tokens, -1)


def draw_sequences(count: int) -> list[str]:
    """Draw sequences of random residues with the lengths of human proteins."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(RESIDUES), length)) for length in draw_lengths(count)]


def file_order(sequences: Sequence[str]) -> list[list[str]]:
    """Cut sequences into the naive pipeline's batches."""
    return [
        list(sequences[start : start + FILE_ORDER_BATCH])
        for start in range(0, len(sequences), FILE_ORDER_BATCH)
    ]


def ours(sequences: Sequence[str], budget: int, special_tokens: int) -> list[list[str]]:
    """Cut sequences into the batches of `common.data.embeddings.plan`."""
    numbered = {str(number): text for number, text in enumerate(sequences)}
    longest = max(map(len, sequences))
    requests = make_requests(numbered, longest)
    batches = plan_batches(requests, budget, special_tokens, longest)
    return [[request.residues for request in batch] for batch in batches]


def padding(batches: Sequence[Sequence[str]]) -> float:
    """Compute the fraction of positions that are padding."""
    held = sum(len(batch) * max(map(len, batch)) for batch in batches)
    return 1 - sum(len(text) for batch in batches for text in batch) / held


def measure(proteins: int, runs: int) -> list[Row]:
    """Measure residues per second of every way to batch, the best of several interleaved runs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, sequences = make_language_model(6, 320, 20, device), draw_sequences(proteins)
    ways = {f"file order, {FILE_ORDER_BATCH} at a time": file_order(sequences)}
    ways["one by one"] = [[text] for text in sequences]
    for budget in BUDGETS:
        ways[f"ours, {budget} tokens"] = ours(sequences, budget, model.special_tokens)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    model.residue_states(sequences[:2])
    for _ in range(runs):
        for name, batches in ways.items():
            taken[name].append(take_time(embedding(model, batches)).wall)
    residues = sum(map(len, sequences))
    naive = next(iter(taken))
    return [
        {
            "batches": name,
            "padding": padding(ways[name]),
            "residues/s": residues / min(seconds),
            "against file order": float(np.median(np.array(taken[naive]) / np.array(seconds))),
        }
        for name, seconds in taken.items()
    ]


def embedding(model: LanguageModel, batches: Sequence[Sequence[str]]) -> Callable[[], None]:
    """Return a function that embeds these batches and fetches the results to the host."""

    def work() -> None:
        for batch in batches:
            for states in model.residue_states(batch):
                states.half().cpu()

    return work


if __name__ == "__main__":
    run_benchmark(
        "Time embedding by the way it is batched.",
        {"batches": lambda arguments: measure(arguments.proteins, arguments.runs)},
        proteins=64,
        runs=3,
    )
