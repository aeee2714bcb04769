"""The page of configuration keys: the schema's types, defaults, values and attribute docstrings."""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from common.config import Config
from common.registry import Registry
from common.yaml_file import format_yaml
from scripts.reference.pages import code, page, sources, table

INTRODUCTION = (
    "Every key of a configuration file, section by section, as `common/config.py` and"
    " `common/config_data.py` define it. On the command line, a key follows its section, such as"
    " `--set training_config.epochs=5`. A section below `pretrain:` or `finetune:` applies to that"
    " stage only. Unknown keys, wrong types and values that are not allowed are refused before any"
    " work starts. Paths are relative to the current directory."
)
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def configuration_page() -> str:
    """Return the page of configuration keys, with one table for each section."""
    described = _attribute_docstrings()
    parts = []
    for prefix, section in _sections(Config, ""):
        rows = [
            _row(section, name, field, described)
            for name, field in section.model_fields.items()
            if _subsection(field) is None
        ]
        if rows:
            summary = inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0]
            header = ("key", "meaning", "type and values", "default")
            parts += [f"## {prefix.rstrip('.')}", " ".join(summary.split()), table(header, rows)]
    return page("Configuration keys", INTRODUCTION, *parts)


def _row(
    section: type[BaseModel],
    name: str,
    field: FieldInfo,
    described: dict[tuple[str, str], str],
) -> list[str]:
    default = field.default
    if isinstance(default, tuple):
        default = list(default)
    shown = format_yaml({"key": default}).partition(":")[2].strip() if default != [] else "[]"
    if isinstance(default, list) and default:
        shown = f"[{', '.join(str(item) for item in default)}]"
    meaning = described.get((section.__name__, name))
    if not meaning:
        raise ValueError(
            f"{section.__name__}.{name} needs a docstring below it that says what it is"
        )
    return [code(name), meaning, _limited(field.annotation, field.metadata), code(shown)]


def _sections(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section with the prefix of its keys, parents first."""
    yield prefix, section
    for name, field in section.model_fields.items():
        below = _subsection(field)
        if below is not None:
            yield from _sections(below, f"{prefix}{field.alias or name}.")


def _subsection(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _type(kind: Any) -> str:
    """Describe an annotation: a plain type, a choice, a list, or several of these."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in TYPES:
        return TYPES[kind]
    if kind is types.NoneType:
        return "null"
    if origin is typing.Annotated:
        return _limited(arguments[0], arguments[1:])
    if origin is typing.Literal:
        return " or ".join(code(str(value)) for value in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin in (types.UnionType, typing.Union):
        return ", or ".join(_type(argument) for argument in arguments)
    raise TypeError(f"no words for the type {kind}")


def _limited(kind: Any, metadata: typing.Sequence[Any]) -> str:
    """Describe a type and its constraints, or the names of a registry, which say enough."""
    registries = [each.func for each in metadata if isinstance(each, AfterValidator)]
    if registries:
        return " or ".join(code(name) for name in _registry(registries[0]).names())
    return ", ".join([_type(kind), *_limits(metadata)])


def _limits(metadata: typing.Sequence[Any]) -> Iterator[str]:
    """Describe bounds and patterns."""
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _limits(each.metadata)
        for name, text in BOUNDS.items():
            if hasattr(each, name):
                bound = getattr(each, name)
                yield text.format("2³²" if bound == 2**32 else bound)
        if getattr(each, "min_length", None):
            yield "not empty"
        if getattr(each, "pattern", None):
            yield "of letters, digits, `.`, `_` and `-`"


def _registry(check: Callable[..., Any]) -> Registry:
    owner = getattr(check, "__self__", None)
    if not isinstance(owner, Registry):
        raise TypeError(f"no words for the check {check}")
    return owner


def _attribute_docstrings() -> dict[tuple[str, str], str]:
    """Return the docstring below each attribute of a class, by the names of class and attribute."""
    found = {}
    for path, tree in sources():
        if not path.name.startswith("config"):
            continue
        for section in tree.body:
            if isinstance(section, ast.ClassDef):
                for field, below in zip(section.body, section.body[1:], strict=False):
                    text = _text_of(below)
                    if isinstance(field, ast.AnnAssign) and text:
                        name = ast.unparse(field.target)
                        found[section.name, name] = " ".join(text.split())
    return found


def _text_of(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return None
