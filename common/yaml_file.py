"""Read YAML files with the line of each key; reject features that no configuration needs.

YAML is a large language. This module rejects tags that build objects, keys that are duplicates or
not strings, and aliases that expand a few lines to gigabytes. A small subclass of PyYAML's loader
does this. `ruamel.yaml` reports duplicate keys and lines by itself, but reads 047 as 47, accepts
unknown tags and keys that are numbers, and has no limit for aliases, so that it would need the same
checks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, excerpt

# Far more values than any configuration needs, and few enough to be checked within a second.
MAX_VALUES, MAX_DEPTH = 10_000, 50
MAX_INTEGER = 2**63

# The line of each key path.
Lines = dict[tuple[str, ...], int]

_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_TEXT_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class NotYamlError(ValueError):
    """Raised when a text is not valid YAML, or uses features that this program does not accept.

    Attributes:
        line: The line of the problem, counted from 1; None if it is not known.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(excerpt(problem, limit=200))
        self.line = line


class _Loader(yaml.SafeLoader):
    """YAML loader that reads `1e-4` as a number and reports the line of a value of a wrong type.

    YAML 1.1 reads `1e-4` as a string.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _problem(node, f"{_shown(node)} is not a valid {kind}") from error

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        value: int = self.construct_yaml_int(node)
        # YAML 1.1 reads 047 as 39 and 1:30 as 90; int() has no limit, but torch has.
        if not _PLAIN_INTEGER.fullmatch(node.value) or abs(value) >= MAX_INTEGER:
            raise ValueError("not a plain decimal integer")
        return value


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes strings such as '1e5', which `_Loader` would read as numbers."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_plain_int)
for _resolver in (_Loader, _Dumper):
    _resolver.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def _problem(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _shown(node: yaml.Node) -> str:
    return f"'{excerpt(node.value)}'" if isinstance(node.value, str) else "of several values"


def parse_yaml(text: str) -> tuple[Any, Lines]:
    """Parse a YAML text; return its content and the line of each key path.

    Raises:
        NotYamlError: The text is not valid YAML, or uses features that no configuration needs.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = _inspect(node)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotYamlError(error.problem or "it cannot be parsed", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYamlError(f"non-printable character {error.character:#x}", line) from None
    except RecursionError:
        raise NotYamlError("its values are nested too deeply") from None


def _inspect(root: yaml.Node) -> Lines:
    """Find the line of each key path; reject invalid keys and aliases of too many values.

    Aliases may contain themselves, so they are checked before any value is built.
    """
    lines: Lines = {}
    left: list[tuple[yaml.Node, tuple[str, ...]]] = [(root, ())]
    count = 0
    while left:
        node, path = left.pop()
        count += 1
        if len(path) > MAX_DEPTH or count > MAX_VALUES:
            limits = f"{MAX_DEPTH} levels or {MAX_VALUES} values"
            raise _problem(node, f"more than {limits}, with aliases expanded")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            for key, value in node.value:
                lines[*path, key.value] = key.start_mark.line + 1
                left.append((value, (*path, key.value)))
        elif isinstance(node, yaml.SequenceNode):
            left += [(value, (*path, "-")) for value in node.value]
    return lines


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag not in _TEXT_KEYS:
            raise _problem(key, f"the key {_shown(key)} is not a string; quote it or remove it")
        if key.value in seen:
            # PyYAML would silently keep the last value.
            raise _problem(key, f"the key {_shown(key)} is defined twice (duplicate key)")
        seen.add(key.value)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Parse a YAML file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: The file cannot be read, or `parse_yaml` rejects its text.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot read the config {path}: {reason}; pass a file with --config"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8; save it as YAML in UTF-8") from None
    except NotYamlError as error:
        where = f"{path}, line {error.line}" if error.line else str(path)
        raise UserError(f"{where}: not valid YAML: {error}") from None


def format_yaml(content: Any) -> str:
    """Return plain values as YAML that `parse_yaml` reads back unchanged."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
