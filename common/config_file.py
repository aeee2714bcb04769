"""Read a configuration file, and report a mistake in it with the file, the line and the key.

Besides the shared sections, a file may have `pretrain:` and `finetune:`, whose entries override the
shared ones for that stage. `load_config` merges the sections, applies `--set key.path=value`,
validates the result, and returns a `Config`; a mistake is reported in one sentence.
Only PyYAML and pydantic are imported here, so that mistakes are reported at once.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from common.config import Config, Stage, flatten, known_keys
from common.config_data import NAME_PATTERN
from common.errors import UserError, excerpt
from common.yaml_file import Lines, NotYamlError, parse_yaml, read_yaml

OVERRIDING_STAGES = ("pretrain", "finetune")
RENAMED = {"hub_repo": "download_url"}  # from a key of older configurations to its new name
_NOT_A_NAME = f"String should match pattern '{NAME_PATTERN}'"
_NONE_NAMED = "Tuple should have at least 1 item after validation, not 0"


def load_config(path: str | Path, stage: Stage, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration file, apply overrides, and return the checked configuration of a stage.

    Args:
        path: The YAML file.
        stage: The stage whose section (`pretrain:` or `finetune:`) overrides the shared ones.
        overrides: `key.path=value` as `--set` takes them; values are read as YAML and take
            precedence over the stage's section.

    Raises:
        UserError: Names the file, the line, the key path and the remedy.
    """
    return load_stages(path, stage, overrides)[stage]


def load_stages(
    path: str | Path, stage: Stage, overrides: Sequence[str] = ()
) -> dict[Stage, Config]:
    """Load and check the configurations of all stages, with overrides for one stage.

    Overrides apply to `stage`, unless their key begins with the name of another stage.

    All stages are checked, so that a mistake under `finetune:` does not surface after a day of
    pretraining.
    """
    path = Path(path)
    document, lines = _read_document(path)
    assignments = [_parse_assignment(text) for text in overrides]
    for key, value in assignments:
        if key[0] in OVERRIDING_STAGES:
            _assign(document, key, value)
    _refuse_device_config(document, assignments, path)
    stages: dict[Stage, Config] = {}
    for each in get_args(Stage):
        merged = _merge_stage(document, each, path)
        for key, value in assignments:
            if key[0] not in OVERRIDING_STAGES and each == stage:
                _assign(merged, key, value)
        stages[each] = _validate(merged, path, lines, each, {key for key, _ in assignments})
    return stages


def check_model_directory(path: Path, named: str) -> None:
    """Reject a directory that contains no model, before any work starts.

    Args:
        path: The directory.
        named: The option or key that names it.

    Raises:
        UserError: The directory has no resolved configuration.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(
            f"{named} {path} is not a best_model directory: it has no config.yaml; give a"
            " directory that pretrain.py or finetune.py printed"
        )


def keys_of(overrides: Sequence[str]) -> set[str]:
    """Return the paths of all keys that `--set` assigns, including keys of an assigned section."""
    assigned: dict[str, Any] = {}
    for key, value in map(_parse_assignment, overrides):
        _assign(assigned, key, value)
    return {key for key, _ in flatten(assigned)}


def read_resolved_config(path: Path) -> Config:
    """Load the configuration that a run saved with `Config.to_yaml`."""
    return load_config(path, "evaluate")


def _read_document(path: Path) -> tuple[dict[str, Any], Lines]:
    document, lines = read_yaml(path)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path} contains no sections; add run_config, data_config, …")
    return document, lines


def _parse_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts) or not key.isprintable():
        raise UserError(
            f"--set takes key.path=value, such as training_config.epochs=5, not '{excerpt(text)}'"
        )
    try:
        return parts, parse_yaml(value)[0]
    except NotYamlError:
        raise UserError(
            f"--set {excerpt(key, limit=120)}: the value '{excerpt(value)}' is not valid YAML;"
            " correct or quote the value"
        ) from None


def _assign(document: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        inner = document.get(part)
        if not isinstance(inner, dict):
            inner = document[part] = {}
        document = inner
    document[key[-1]] = value


def _refuse_device_config(
    document: Mapping[str, Any], assignments: Sequence[tuple[tuple[str, ...], Any]], path: Path
) -> None:
    """Reject a section `device_config`, and say where device settings belong instead."""
    assigned = any("device_config" in key[:2] for key, _ in assignments)
    sections = [document, *(document.get(stage) for stage in OVERRIDING_STAGES)]
    if assigned or any("device_config" in part for part in sections if isinstance(part, Mapping)):
        raise UserError(
            f"{'--set' if assigned else path}: device_config is not a section of the configuration;"
            " remove it, and set device, processes and precision with `accelerate config` or"
            " accelerate_configs/*.yaml"
        )


def _merge_stage(document: Mapping[str, Any], stage: str, path: Path) -> dict[str, Any]:
    """Override the shared sections with the stage's section (`pretrain:` or `finetune:`)."""
    shared = {key: value for key, value in document.items() if key not in OVERRIDING_STAGES}
    overriding = document.get(stage) if stage in OVERRIDING_STAGES else None
    if overriding is None:
        return copy.deepcopy(shared)
    if not isinstance(overriding, dict):
        raise UserError(f"{path}: '{stage}' must be a section (key: value lines)")
    return _deep_merge(shared, overriding)


def _deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _deep_merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _validate(
    merged: dict[str, Any],
    path: Path,
    lines: Mapping[tuple[str, ...], int],
    stage: str,
    assigned: set[tuple[str, ...]],
) -> Config:
    try:
        # The schema's tuples are lists in YAML.
        return Config.model_validate(_lists_to_tuples(merged))
    except ValidationError as error:
        errors = error.errors()
    first = errors[0]
    key = _written_path(first["loc"], merged)
    # Pydantic reports one error for each type that the key may have.
    reasons = [each["msg"] for each in errors if _written_path(each["loc"], merged) == key]
    prefix: tuple[str, ...] = ()
    if _is_assigned(key, assigned):
        where = "--set"
    elif _is_assigned((stage, *key), assigned):
        where, prefix = "--set", (stage,)
    else:
        if key and (stage, *key) in lines:
            prefix = (stage,)
        line = lines.get((stage, *key)) or lines.get(key)
        where = f"{path}, line {line}" if line else str(path)
        if not prefix and (stage,) in lines and first["type"] == "value_error":
            where += f" (for {stage})"
    raise UserError(f"{where}: {_explain({**first, 'msg': _join(reasons)}, key, prefix)}")


def _is_assigned(key: tuple[str, ...], assigned: set[tuple[str, ...]]) -> bool:
    """Return whether `--set` assigned this key, a section that contains it, or a key below it."""
    return any(
        given[: len(key)] == key[: len(given)] for given in assigned if key and key[0] == given[0]
    )


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists_to_tuples(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_lists_to_tuples(inner) for inner in value)
    return value


def _written_path(location: Sequence[Any], document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the key path of a pydantic error in the user's file, without list indices."""
    key: list[str] = []
    node: Any = document
    for part in location:
        if not isinstance(node, Mapping) or part not in node:
            break
        key.append(part)
        node = node[part]
    return tuple(key)


def _join(reasons: Sequence[str]) -> str:
    """Join pydantic's messages about one value into one sentence."""
    first, *others = dict.fromkeys(reasons)
    return " or ".join([first, *(reason.removeprefix("Input should be ") for reason in others)])


def _explain(error: Mapping[str, Any], key: tuple[str, ...], prefix: tuple[str, ...]) -> str:
    name = excerpt(".".join((*prefix, *key)), limit=120)
    kind, given = error["type"], error.get("input")
    if kind in ("extra_forbidden", "invalid_key"):
        nearest = _nearest_key(key)
        hint = f"; did you mean '{'.'.join((*prefix, nearest))}'?" if nearest else "; remove it"
        return f"unknown key '{name}'{hint}"
    if kind == "value_error":
        reason = str(error["ctx"]["error"])
        return f"{name}: {reason}" if name else reason
    if kind in ("model_type", "model_attributes_type"):
        return f"'{name}' must be a section (key: value lines), not {_describe(given)}"
    reason = str(error["msg"]).replace("Input should be", "must be").replace("tuple", "list")
    reason = reason.replace(_NONE_NAMED, "must contain at least one")
    reason = reason.replace("must be a valid list", "must be a list, such as [a, b]")
    reason = reason.replace(_NOT_A_NAME, "must consist of letters, digits, '.', '_' and '-'")
    return f"{name} {reason[0].lower()}{reason[1:]}, not {_describe(given)}"


def _describe(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, tuple):
        value = list(value)
    return f"'{excerpt(value)}' (a string)" if isinstance(value, str) else excerpt(repr(value))


def _nearest_key(key: tuple[str, ...]) -> str | None:
    """Find the known key path that the user may have meant by an unknown key path."""
    known = [
        k for k in (*known_keys(), *OVERRIDING_STAGES) if not ".".join(key).startswith(f"{k}.")
    ]
    siblings = [k for k in known if k.rpartition(".")[0] == ".".join(key[:-1])]
    name = RENAMED.get(key[-1], key[-1])
    close = difflib.get_close_matches(name, [k.rpartition(".")[2] for k in siblings], 1, 0.6)
    if close:
        return ".".join((*key[:-1], close[0]))
    elsewhere = [k for k in known if k.rpartition(".")[2] == key[-1]]
    if elsewhere:
        return elsewhere[0]
    return next(iter(difflib.get_close_matches(".".join(key), known, 1, 0.6)), None)
