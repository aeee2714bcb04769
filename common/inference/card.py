"""Write the model card, a checkpoint's `README.md` that describes the model to other people.

The head of the file is metadata for the Hugging Face hub (YAML). The text below describes what is
known when the model is saved; `evaluate.py` adds the results on test proteins
(`common.evaluation.card_results`). People may edit the file: their text is kept, and the program
never reads it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash
from huggingface_hub import EvalResult, ModelCardData

from common.config import Config
from common.inference.decision import Decision
from common.inference.hub import is_hub_name
from common.inference.thresholds import mode_of
from common.provenance import commit, versions

CARD_FILE = "README.md"
RESULTS_HEADING = "## Results on test proteins"
NOT_JUDGED = (
    "This checkpoint has not been judged yet: `evaluate.py --config CONFIG --checkpoint DIR` adds"
    " its results here."
)
# The names of metrics for people; the hub shows them.
_SHOWN = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "mcc": "MCC"}
# Data sets on the hub from which a benchmark was made.
_DATASETS = {"pring": ["piaolaidangqu/PRING"]}
_SYNTHETIC = (
    "\n> **The training data are synthetic.** They were generated to try the program; this model"
    " says nothing about real proteins.\n"
)
_CARD = f"""\
# {{title}}

Given the amino-acid sequences of two proteins, this model estimates the probability that they
interact physically. It reads each protein through a protein language model, which is not part of
this checkpoint, and a small network ({{model}}, {{parameters}} parameters) scores pairs; the order
of the two proteins does not matter. Made with RELIC.
{{synthetic}}
## Use

```python
from common.inference.predictor import Predictor

predictor = Predictor.load("DIR")  # this directory, or user/repo on the Hugging Face hub
predictor.score([("A", "B")], {{{{"A": "MKVLAAGITG", "B": "MSERTIDPKQ"}}}})
```

`python evaluate.py --checkpoint DIR --fasta proteins.fasta --output network.tsv` scores all pairs
of your own proteins. Both run in a checkout of RELIC.

## Training

{{training}}

## Validation

{{validation}}

## Threshold and calibration

{{threshold}}

{RESULTS_HEADING}

{NOT_JUDGED}

## Intended use and limits

{{limits}}

## Provenance

{{provenance}}
"""


def write_card(
    config: Config, decision: Decision, parameters: int, data: Mapping[str, object]
) -> str:
    """Return the text of the card of a model that has not been evaluated yet.

    Args:
        config: The resolved configuration of its training.
        decision: Its threshold and validation metrics.
        parameters: The number of its parameters.
        data: Notes on the training data for people, by name, such as `train`.
    """
    text = _CARD.format(
        title=title_of(config),
        model=f"`{config.model.model}`",
        parameters=f"{parameters:,}",
        synthetic=_SYNTHETIC if config.data.benchmark.name == "demo" else "",
        training=_describe_training(config, data),
        validation=_describe_validation(config, decision),
        threshold=_describe_threshold(config, decision),
        limits=_list(_limits(config, decision)),
        provenance=_describe_provenance(config, decision),
    )
    return f"---\n{_metadata(config, decision).to_yaml()}\n---\n\n{text}"


def title_of(config: Config) -> str:
    """Return the title of a model's card."""
    return f"RELIC {config.model.model}, trained on {describe_benchmark(config)}"


def describe_benchmark(config: Config) -> str:
    """Return the readable name of a benchmark, such as `pring yeast BFS`."""
    benchmark = config.data.benchmark
    return f"{benchmark.name} {benchmark.species} {benchmark.split_strategy}"


def hub_result(config: Config, split: str, metric: str, value: float) -> EvalResult:
    """Return one metric as an entry of the hub's `model-index`."""
    benchmark = config.data.benchmark
    return EvalResult(
        task_type="protein-protein-interaction",
        task_name="Protein-protein interaction prediction",
        dataset_type=benchmark.name,
        dataset_name=f"{describe_benchmark(config)}, {split.replace('_', ' ')}",
        dataset_config=f"{benchmark.species}_{benchmark.split_strategy}",
        dataset_split=split,
        metric_type=metric,
        metric_name=_SHOWN.get(metric, metric),
        metric_value=round(value, 6),
    )


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first column is aligned left, the others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    cells = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
                     for row in cells)  # fmt: skip


def _metadata(config: Config, decision: Decision) -> ModelCardData:
    """Return the card's metadata, without a license, which the publisher of the model chooses."""
    language_model = config.data.embeddings.model_name
    # A directory's name would be taken for a model of the hub.
    base = language_model if is_hub_name(language_model) else None
    found = [
        hub_result(config, "validation", name, value)
        for name, value in decision.validation.items()
        if value is not None
    ]
    return ModelCardData(
        library_name="relic",
        tags=["protein-protein-interaction", "protein", "biology", config.model.model],
        datasets=_DATASETS.get(config.data.benchmark.name),
        base_model=base,
        model_name=title_of(config) if found else None,
        eval_results=found or None,
    )


def _describe_training(config: Config, data: Mapping[str, object]) -> str:
    benchmark, embeddings = config.data.benchmark, config.data.embeddings
    lines = {
        "Benchmark": f"`{benchmark.name}`, species {benchmark.species}, split"
        f" {benchmark.split_strategy}",
        "Training pairs": data.get("train"),
        "Validation pairs": data.get("held_out") or data.get("val"),
        "Set aside for validation": data.get("set_aside"),
        "Dropped for lack of a sequence": data.get("train_dropped"),
        "Negatives": config.data.dataloader.sampling.negatives.source,
        "Continued from": _last_part(config.run.load_checkpoint_path),
        "Teacher": _last_part(config.training.loss.teacher),
        "Language model": f"`{_last_part(embeddings.model_name)}`"
        + (f" at revision {embeddings.revision}" if embeddings.revision else "")
        + ("" if is_hub_name(embeddings.model_name) else " (a local copy; its digest is below)")
        + f", hidden layer {embeddings.layer}",
        "Longest sequence": f"{config.data.max_sequence_length} residues; the rest is cut off",
    }
    rows = [(name, str(value)) for name, value in lines.items() if value is not None]
    return "\n".join(f"- {name}: {value}" for name, value in rows)


def _last_part(name: str | None) -> str | None:
    """Shorten a path to its last part; return the name of a hub model unchanged."""
    if name is None or is_hub_name(name):
        return name
    parts = Path(name).parts
    return "/".join(parts[-2:]) if parts[-1] == "best_model" else parts[-1]


def _describe_validation(config: Config, decision: Decision) -> str:
    rows = [
        (_SHOWN.get(name, name), "undefined" if value is None else f"{value:.4f}")
        for name, value in decision.validation.items()
    ]
    about = (
        "No training pair contains a protein of the validation pairs, so these metrics are those of"
        " new proteins of the same species."
        if config.data.validation.mode == "protein_disjoint"
        else "The validation pairs are the benchmark's own. Where they share proteins with the"
        " training pairs (as in PRING), these metrics are higher than those of new proteins."
    )
    best = f"Epoch {decision.epoch} was the best by {decision.monitor_metric}. {about}"
    return f"{best}\n\n{format_table(('metric', 'validation'), rows)}"


def _describe_threshold(config: Config, decision: Decision) -> str:
    mode = mode_of(config.evaluate.decision_threshold)
    text = (
        f"Pairs with a probability of at least {decision.threshold:.6g} are called interactions"
        f" (mode `{decision.mode}`: {mode.meaning})."
    )
    for name, value in decision.assumed.items():
        text += f" It assumes a {name} of {value:.3g}."
    calibration = decision.calibration
    if calibration is None:
        return f"{text} The probabilities are not calibrated."
    return (
        f"{text} With `evaluate.calibration: temperature`, probabilities are calibrated for a"
        f" prevalence of {calibration.prevalence:.3g} (temperature {calibration.temperature:.3g});"
        f" the threshold is then {decision.calibrated_threshold:.6g}."
    )


def _limits(config: Config, decision: Decision) -> list[str]:
    shared = (
        "A prediction is a hypothesis, for choosing which experiments to do first; it is no"
        " evidence of an interaction, and not meant for medical decisions.",
        "Scores of proteins unlike those of the training, above all of other species, are less"
        " reliable than the validation metrics suggest; see the results on test proteins.",
        "Of all pairs of a proteome far fewer interact than of the validation pairs, so the"
        " threshold calls too many: keep the best pairs (`--top-k`, `--density`) instead.",
    )
    interacting = decision.calibration is None and decision.mode != "match_density"
    parts = [*shared[:2], *(shared[2:] if interacting else [])]
    if config.data.benchmark.name == "pring":
        parts.append(
            "In PRING every pair of a protein with itself is positive, so scores of self-pairs"
            " are high whatever the protein."
        )
    return parts


def _describe_provenance(config: Config, decision: Decision) -> str:
    digest = xxhash.xxh3_128_hexdigest(config.to_yaml().encode())[:12]
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    return _list(
        [
            f"Saved on {datetime.date.today().isoformat()} by RELIC at commit"
            f" {commit() or 'unknown'}",
            f"Configuration: `config.yaml` (digest {digest}), seed {config.run.seed}",
            f"Digest of the language model's files: {decision.language_model}",
            f"Versions: {libraries}",
        ]
    )


def _list(parts: Sequence[str]) -> str:
    return "\n".join(f"- {part}" for part in parts)
