"""What embedding costs: our batches against file order and against one sequence at a time.

    python -m benchmarks.embedding [--proteins 64] [--runs 3] [--output FILE.json]
    OMP_NUM_THREADS=1 python -m benchmarks.embedding

A randomly initialised ESM-2 of the shape of the smallest released one (6 layers, 320 wide, 20
heads) embeds proteins of human lengths. `file order` is the naive pipeline: batches of 16 sequences
as they come, padded to the longest; `ours` sorts by length and fills a budget of tokens, for
several budgets; `one by one` pads nothing. Every run takes them in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

from benchmarks.baseline import draw_lengths
from benchmarks.workload import machine, print_table, take_time, write_report
from common.config import EmbeddingsConfig
from common.data.embeddings.language_model import LanguageModel
from common.data.embeddings.model_files import locate_model
from common.data.embeddings.plan import make_requests, plan_batches

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
TOKENS = ["<cls>", "<pad>", "<eos>", "<unk>", *RESIDUES, "<mask>"]
FILE_ORDER_BATCH = 16
BUDGETS = (1024, 2048, 4096, 8192, 16384)

Row = dict[str, Any]


def load_model(folder: Path, device: torch.device) -> LanguageModel:
    """A language model with random weights, read as any local one is."""
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(TOKENS))
    EsmTokenizer(str(vocabulary)).save_pretrained(folder)
    config = EsmConfig(
        vocab_size=len(TOKENS),
        pad_token_id=TOKENS.index("<pad>"),
        mask_token_id=TOKENS.index("<mask>"),
        hidden_size=320,
        num_hidden_layers=6,
        num_attention_heads=20,
        intermediate_size=1280,
        max_position_embeddings=1026,
        position_embedding_type="rotary",
    )
    torch.manual_seed(0)
    EsmForMaskedLM(config).save_pretrained(folder)
    files = locate_model(EmbeddingsConfig(model_name=str(folder)))
    return LanguageModel.load(files, -1, device)


def draw_sequences(count: int) -> list[str]:
    """Random residues in proteins of human lengths."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(RESIDUES), length)) for length in draw_lengths(count)]


def file_order(sequences: Sequence[str]) -> list[list[str]]:
    """The naive pipeline's batches."""
    return [
        list(sequences[start : start + FILE_ORDER_BATCH])
        for start in range(0, len(sequences), FILE_ORDER_BATCH)
    ]


def ours(sequences: Sequence[str], budget: int, special_tokens: int) -> list[list[str]]:
    """The batches of `common.data.embeddings.plan`."""
    numbered = {str(number): text for number, text in enumerate(sequences)}
    requests = make_requests(numbered, max(map(len, sequences)))
    batches = plan_batches(requests, budget, special_tokens)
    return [[request.residues for request in batch] for batch in batches]


def padding(batches: Sequence[Sequence[str]]) -> float:
    """The share of positions that is padding."""
    held = sum(len(batch) * max(map(len, batch)) for batch in batches)
    return 1 - sum(len(text) for batch in batches for text in batch) / held


def measure(model: LanguageModel, sequences: Sequence[str], runs: int) -> list[Row]:
    """Residues per second of every way to batch, the best of several interleaved runs."""
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
    """The work of embedding these batches, results fetched to the host."""

    def work() -> None:
        for batch in batches:
            for states in model.residue_states(batch):
                states.half().cpu()

    return work


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(description="Time embedding by the way it is batched.")
    parser.add_argument("--proteins", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3, help="repetitions, interleaved")
    parser.add_argument("--output", help="JSON file to write")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(Path(folder), device)
        rows = measure(model, draw_sequences(arguments.proteins), arguments.runs)
    print_table(rows)
    write_report(arguments.output, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
