"""Reading YAML that anyone may have written: with its lines, and without surprises.

YAML is a large language. What a configuration has no use for is refused here: tags that build
objects, keys that are no text or stand twice, aliases that multiply a few lines to gigabytes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, excerpt

# Far above any configuration, far below what takes a second to look at.
MAX_VALUES, MAX_DEPTH = 10_000, 50
MAX_INTEGER = 2**63

# The line of each key path.
Lines = dict[tuple[str, ...], int]

_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_TEXT_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class NotYamlError(ValueError):
    """A text is not the YAML that this program reads.

    Attributes:
        line: Counted from 1; None where the whole text is meant.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(excerpt(problem, limit=200))
        self.line = line


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `1e-4` as a number (YAML 1.1 takes it for a text), wants keys to be
    distinct texts, and names the line of a value that is not what its tag or look says.
    """  # noqa: D205

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in _TEXT_KEYS:
                raise _problem(key, f"the key {_shown(key)} is no text; remove it or put it in ''")
            if key.value in seen:
                # PyYAML would silently keep the last.
                raise _problem(key, f"the key {_shown(key)} stands twice")
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _problem(node, f"{_shown(node)} is not a valid {kind}") from error

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        value: int = self.construct_yaml_int(node)
        # YAML 1.1 reads 047 as 39 and 1:30 as 90; and int() has no bound, but torch has.
        if not _PLAIN_INTEGER.fullmatch(node.value) or abs(value) >= MAX_INTEGER:
            raise ValueError("not what it looks like")
        return value


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes the texts, such as '1e5', that `_Loader` would read as a number."""


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
    """What a text holds, and the line of each key path.

    Raises:
        NotYamlError: Its syntax is wrong, or it is more than a configuration needs.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        _check_size(node)
        return loader.construct_document(node), dict(_key_lines(node))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotYamlError(error.problem or "it cannot be parsed", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotYamlError(f"the character {error.character:#x} cannot be seen", line) from None
    except RecursionError:
        raise NotYamlError("its values are nested too deeply") from None


def _check_size(root: yaml.Node) -> None:
    """Refuse what aliases multiply (or contain for ever) before anything is built of it."""
    left = [(root, 0)]
    for count in itertools.count():
        if not left:
            return
        node, depth = left.pop()
        if depth > MAX_DEPTH or count > MAX_VALUES:
            limits = f"{MAX_DEPTH} levels or {MAX_VALUES} values"
            raise _problem(node, f"more than {limits}, aliases counted in full")
        if isinstance(node, yaml.MappingNode):
            left += [(value, depth + 1) for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += [(value, depth + 1) for value in node.value]


def _key_lines(
    node: yaml.Node, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from _key_lines(value, path)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """`parse_yaml` of a configuration file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: The file cannot be read, or is not YAML; with the line where there is one.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot read the config {path}: {reason}; name a file with --config"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8; a config is YAML") from None
    except NotYamlError as error:
        where = f"{path}, line {error.line}" if error.line else str(path)
        raise UserError(f"{where}: not valid YAML: {error}") from None


def format_yaml(content: Any) -> str:
    """Plain values as YAML that `parse_yaml` reads back the same."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
