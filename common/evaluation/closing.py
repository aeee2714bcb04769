"""Compose the closing sentence of an evaluation, which compares the main results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from common.csv_log import Cell
from common.evaluation.network_summary import NetworkSummary

CLOSE = 0.02  # AUROCs that differ by less count as about the same
SAME = "about the same as"
ABOUT = 0.1  # numbers of interactions count as about equal if their ratio differs less from 1
GUIDE = "docs/reading_results.md explains which values are good."

Rows = Sequence[Mapping[str, Cell]]


def closing_sentence(facts: Sequence[str]) -> str | None:
    """Join the facts of `compare_numbers` into a closing sentence, or return None without facts."""
    if not facts:
        return None
    sentence = "; ".join(facts)
    return f"{sentence[0].upper()}{sentence[1:]}. {GUIDE}"


def verdict(facts: Sequence[str]) -> list[str]:
    """Turn the facts of `compare_numbers` into at most three sentences."""
    first, second, rest = facts[:1], facts[1:2], facts[2:]
    joined = ("; ".join(part) for part in (first, second, rest) if part)
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in joined]


def compare_numbers(
    networks: Sequence[NetworkSummary],
    rows: Rows,
    validation: Mapping[str, float | None],
    baselines: Mapping[str, float | None],
    differences: Mapping[str, tuple[float, float]],
) -> list[str]:
    """State facts that compare the main results of an evaluation, each fact as one clause.

    Args:
        networks: The predicted networks, starting with the configured species.
        rows: The rows of `evaluate.csv`; empty if the task `pairs` was not requested.
        validation: The model's metrics on its validation pairs.
        baselines: The test AUROC of each baseline that was run.
        differences: The 95 % interval of the model's AUROC minus a baseline's AUROC, for each
            baseline with an interval.
    """
    aurocs = {str(row["split"]): _number(row.get("auroc")) for row in rows}
    test = aurocs.get("test")
    facts = [
        _compare_density(one, times)
        for one in networks[:1]
        if (times := one.every.times_true) is not None
    ]
    if test is not None:
        facts += _compare_rankings(test, aurocs, validation, baselines, differences)
    return facts


def _compare_density(network: NetworkSummary, times: float) -> str:
    many = "about" if abs(times - 1) < ABOUT else f"{times:.3g} times"
    return (
        f"the predicted network of {network.species} has {many} as many interactions as the true"
        " one"
    )


def _compare_rankings(
    test: float,
    aurocs: Mapping[str, float | None],
    validation: Mapping[str, float | None],
    baselines: Mapping[str, float | None],
    differences: Mapping[str, tuple[float, float]],
) -> Iterator[str]:
    plain, validated = aurocs.get("test_without_self_pairs"), validation.get("auroc")
    if plain is not None:
        yield f"the test AUROC is {test:.3f}, and {plain:.3f} without self-pairs"
    if validated is not None:
        yield f"the validation AUROC, {validated:.3f}, is {_distance(validated, test)} the test's"
    defined = {name: auroc for name, auroc in baselines.items() if auroc is not None}
    if defined:
        best = max(defined, key=lambda name: defined[name])
        distance = _distance(test, defined[best])
        chance = "" if distance == SAME else _doubt(differences.get(best))
        yield f"the test AUROC is {distance} that of the best baseline, {best}{chance}"


def _doubt(interval: tuple[float, float] | None) -> str:
    """Return a clause which says that a difference may be chance, if the interval contains 0."""
    if interval is None or not interval[0] <= 0 <= interval[1]:
        return ""
    low, high = interval
    return f", which may be chance (95 % interval of the difference: {low:+.3f} to {high:+.3f})"


def _distance(one: float, other: float) -> str:
    """Describe the difference between two AUROCs, for example as `0.050 above`."""
    if abs(one - other) < CLOSE:
        return SAME
    return f"{abs(one - other):.3f} {'above' if one > other else 'below'}"


def _number(cell: Cell) -> float | None:
    return cell if isinstance(cell, float) else None
