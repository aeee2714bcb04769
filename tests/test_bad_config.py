"""Bad configurations: every setting given every kind of value, damaged files, YAML's own traps.

Cases: 4,500, of which 3,600 give one setting of the schema one value, and 350 are generated
(`test_so_many_cases_are_tried`).
"""

from __future__ import annotations

import datetime
import math
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel

from common.config import Config, Stage, known_keys
from common.config_file import load_config
from common.registry import BENCHMARKS, MODELS, READERS, TASKS, THRESHOLD_MODES
from tests.bad_input import Refused, assert_tried, attempt, cases, flip_bit, named_line
from tests.tiny_benchmark import ROOT

SHIPPED = [path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))]

OUT_OF_RANGE = re.compile(
    "must be (greater|less) than|must divide|must contain at least one|must consist of letters"
)
REGISTRIES = (BENCHMARKS, MODELS, READERS, TASKS, THRESHOLD_MODES)

# As written in YAML, and as it must arrive; `...` where it is not even a value of YAML.
VALUES: dict[str, Any] = {
    "some text": "some text",
    "'5'": "5",
    "''": "",
    '"a\\0b"': "a\0b",
    '"a\\nb"': "a\nb",
    '"\\ud800"': "\ud800",
    "\u200bx": "\u200bx",
    "x" * 400: "x" * 400,
    "5": 5,
    "0": 0,
    "-3": -3,
    "0.25": 0.25,
    "1e300": 1e300,
    "-1.5": -1.5,
    "4294967296": 2**32,
    ".inf": math.inf,
    ".nan": math.nan,
    "yes": True,
    "off": False,
    "": None,
    "[]": [],
    "[1, a]": [1, "a"],
    "[[auroc]]": [["auroc"]],
    "{a: 1}": {"a": 1},
    "{}": {},
    "2024-01-01": datetime.date(2024, 1, 1),
    "!!binary aGk=": b"hi",
    "!!set {a, b}": {"a", "b"},
    "!!pairs [a: 1]": [("a", 1)],
    "9" * 30: ...,
    "0x1F": ...,
    "047": ...,
    "1:30": ...,
    "2024-13-45": ...,
    "!!int x": ...,
    "!!int ''": ...,
    "!!bool x": ...,
    "!!timestamp x": ...,
    "!!map [a]": ...,
    "!!python/name:os.system": ...,
    "&a [*a]": ...,
    "[": ...,
    "a: b: c": ...,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


def settings_of(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of the schema with its type hint, found without `known_keys`."""
    hints = typing.get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_of(field.annotation, f"{key}.")
        else:
            yield key, hints[name]


SETTINGS = dict(settings_of())


def fits(hint: Any, value: Any) -> bool:
    """Whether a value has the type of a hint, whatever its range."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        choices = [each.names() for each in REGISTRIES if AfterValidator(each.check) in arguments]
        return fits(Literal[choices[0]] if choices else arguments[0], value)
    if origin in (Union, types.UnionType):
        return any(fits(argument, value) for argument in arguments)
    if origin is Literal:
        return type(value) is str and value in arguments
    if origin is tuple:
        return type(value) is list and all(fits(arguments[0], inner) for inner in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint is str:
        return type(value) is str and value.isprintable() and value != ""
    return type(value) is (types.NoneType if hint is None else hint)


def setting(config: Config, key: str) -> Any:
    node: Any = config.model_dump(by_alias=True)
    for part in key.split("."):
        node = node[part]
    return list(node) if isinstance(node, tuple) else node


def nested(key: str, value: str) -> str:
    """YAML with one line for every part of the key."""
    parts = key.split(".")
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(parts)]
    return "\n".join(lines) + f" {value}\n"


def load(folder: Path, text: str | bytes, *overrides: str, stage: Stage = "evaluate") -> Any:
    """Attempt to load a text."""
    path = folder / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return attempt("config", lambda: load_config(path, stage, overrides), path, or_names="--set")


def test_the_settings_tried_are_all_there_are() -> None:
    sections = {key.rpartition(".")[0] for key in SETTINGS} - {""}
    parents = {".".join(key.split(".")[:depth]) for key in sections for depth in range(1, 9)}
    assert set(SETTINGS) | parents == set(known_keys())


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_given_every_kind_of_value(folder: Path, key: str) -> None:
    depth, path = len(key.split(".")), folder / "c.yaml"
    for written, value in VALUES.items():
        config = load(folder, nested(key, written))
        if not isinstance(config, Refused):
            assert fits(SETTINGS[key], value), written
            assert setting(config, key) == value
        elif value is ...:
            assert "not valid YAML" in config.sentence
            assert named_line(config, path) in {depth, depth + 1}
        elif fits(SETTINGS[key], value):
            assert OUT_OF_RANGE.search(config.sentence), config.sentence
            assert key.rpartition(".")[2] in config.sentence
        else:
            assert key in config.sentence
            assert named_line(config, path) == depth


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("way", ["file", "set", "set in stage"])
def test_wrong_values_of_a_stage_and_of_set_are_refused_there(
    folder: Path, way: str, stage: Stage
) -> None:
    wrong = ["1:30", "{a: 1}", "[[auroc]]", "2024-01-01", "!!bool x"]
    for number, key in enumerate(SETTINGS):
        written, place = wrong[number % len(wrong)], f"{stage}.{key}" if "stage" in way else key
        if way == "file":
            config = load(folder, nested(f"{stage}.{key}", written), stage=stage)
            assert named_line(config, folder / "c.yaml") == len(key.split(".")) + 1
        else:
            config = load(folder, SHIPPED[0], f"{place}={written}", stage=stage)
            assert config.sentence.startswith("--set")
            assert place in config.sentence


# Damaged files

SNIPPETS = [
    "\t", "\0", "\x1b", "\ufeff", "\u2028", "\x85", "\r", "\n", " ", "é", "&a ", "*a", "<<: ", "- ",
    "? ", ": ", "'", '"', "{", "}", "[", "]", "|\n", ">", "%YAML 9.9\n", "---\n", "...", "@", "`",
    "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!set ", "!!map ", "!!binary ", "!!omap ",
    "1: ", "~: ", "= ", "x: 1\n", "run_config:\n", "047", "1:30", "1e5", "null", "pretrain: ",
    "finetune: {}\n", "!",
]  # fmt: skip


@st.composite
def damaged_configs(draw: st.DrawFn) -> bytes:
    """A shipped config with a few snippets put in, pieces cut out, or bits flipped."""
    content = draw(st.sampled_from(SHIPPED)).encode()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.integers(0, 5))
        if kind < 3:
            content = content[:place] + draw(st.sampled_from(SNIPPETS)).encode() + content[place:]
        elif kind < 5:
            content = content[:place] + content[place + draw(st.integers(1, 40)) :]
        elif content:
            content = flip_bit(content, draw(st.integers(0, 8 * len(content) - 1)))
    return content


def scalars_of(node: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from scalars_of(value, (*prefix, key))
    else:
        yield prefix, node


def means(text: Any, value: Any) -> bool:
    """Whether an unparsed scalar, or a list of them, may well mean a value."""
    if isinstance(text, list):
        return len(text) == len(value) and all(map(means, text, value))
    if isinstance(value, bool):
        return (
            text.lower() in {"true", "yes", "on"}
            if value
            else text.lower() in {"false", "no", "off"}
        )
    if value is None:
        return (text or "").lower() in {"", "null", "~"}
    return bool(text == value if isinstance(value, str) else float(text.replace("_", "")) == value)


@cases(200)
@given(damaged_configs())
def test_a_damaged_config_is_read_as_it_stands_or_refused(folder: Path, content: bytes) -> None:
    config = load(folder, content)
    if isinstance(config, Refused):
        return
    # BaseLoader knows no types: every scalar is the text that stands there.
    document = yaml.load(content.decode("utf-8-sig"), Loader=yaml.BaseLoader)
    for stage in ("pretrain", "finetune"):
        document.pop(stage, None)
    for key, text in scalars_of(document):
        assert means(text, setting(config, ".".join(key))), key


@cases(150)
@given(
    st.sampled_from(sorted(SETTINGS)),
    st.lists(st.sampled_from([*VALUES, *SNIPPETS]), min_size=1, max_size=3).map("".join),
    st.sampled_from(["{}={}", "{}={}", "finetune.{}={}", "{}.x={}", ".{}={}", "{}{}", "{}\n={}"]),
)
def test_assignments_are_taken_as_they_stand_or_refused(
    folder: Path, key: str, value: str, form: str
) -> None:
    config = load(folder, SHIPPED[0], form.format(key, value))
    if not isinstance(config, Refused) and form == "{}={}":
        assert means(yaml.load(value, Loader=yaml.BaseLoader), setting(config, key))


# Stories


LAUGHS = {
    "lists": "a: &a [x, x]\n{}: &{} [{}]\n",
    "sections": "a: &a {{x: x}}\n{}: &{} {{{}}}\n",
    "merged sections": "a: &a {{x: x}}\n{}: &{} {{<<: [{}]}}\n",
}


@pytest.mark.parametrize("kind", LAUGHS)
def test_aliases_cannot_multiply(folder: Path, kind: str) -> None:
    """Nine lines of nine aliases each stood for 9 ** 9 values and filled the memory."""
    head, _, line = LAUGHS[kind].partition("\n")
    text = head.format() + "\n"
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        keys = [f"k{number}: " if kind == "sections" else "" for number in range(9)]
        text += line.format(name, name, ", ".join(f"{key}*{before}" for key in keys))
    assert "not valid YAML: more than" in load(folder, text).sentence


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 600, "a: " + "{a: " * 600, "a: &a [*a]", "a: &a {b: *a}", "a:\n- &a [*a]"],
)
def test_nesting_cannot_exhaust_the_stack(folder: Path, text: str) -> None:
    """`evaluate.metrics=&x [*x]` given by --set ended in a RecursionError."""
    assert "not valid YAML" in load(folder, text).sentence
    refused = load(folder, SHIPPED[0], "evaluate.metrics=" + text.removeprefix("a:").strip())
    assert "is not valid YAML" in refused.sentence


def test_a_scalar_that_its_tag_does_not_fit_is_named_with_its_line(folder: Path) -> None:
    """`!!timestamp x` was an AttributeError, `!!bool x` a KeyError, `!!int ''` an IndexError."""
    for value in ("!!timestamp x", "!!bool x", "!!int ''", "!!float ''", "2024-13-45"):
        refused = load(folder, f"run_config:\n  seed: 1\n  output_dir: {value}\n")
        assert named_line(refused, folder / "c.yaml") == 3
        assert "is not a valid" in refused.sentence


def test_integers_are_decimal(folder: Path) -> None:
    """YAML 1.1 reads the seed 047 as 39 and 1:30 epochs as 90, without a word."""
    assert "'047' is not a valid int" in load(folder, "run_config: {seed: 047}\n").sentence
    assert load(folder, "run_config: {seed: 4_7}\n").run.seed == 47


def test_texts_that_cannot_be_seen_whole_are_refused(folder: Path) -> None:
    """A NUL in output_dir was accepted and ended in a ValueError where the run was opened."""
    for value in ('"a\\0b"', '"a\\nb"', "hum\u200ban", '"\\ud800"'):
        refused = load(folder, f"data_config: {{benchmark: {{species: {value}}}}}\n")
        assert "data_config.benchmark.species" in refused.sentence


def test_a_section_for_a_setting_of_several_kinds_is_refused_by_its_own_name(folder: Path) -> None:
    """`input_dim: {a: 1}` was said to be wrong in "input_dim.constrained-int", without a line."""
    refused = load(folder, "model_config:\n  input_dim: {a: 1}\n")
    assert named_line(refused, folder / "c.yaml") == 2
    assert "model_config.input_dim must be a valid integer or 'auto'" in refused.sentence


def test_what_a_config_holds_cannot_break_the_sentence(folder: Path) -> None:
    """A value with a line end made two lines of the refusal, one of a megabyte a page."""
    for wrong in ('"a\\nb"', "x" * 1_000_000, '"\\e[31m"', "[" + "1, " * 900 + "1]"):
        for text in (f"training_config: {{epochs: {wrong}}}\n", f"{wrong}: 1\n"):
            assert isinstance(load(folder, text), Refused)
        assert isinstance(load(folder, SHIPPED[0], f"training_config.epochs={wrong}"), Refused)


def test_no_value_of_a_config_runs_code(folder: Path) -> None:
    marker = folder / "marker"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"):
        for value in (f"!!python/{tag} ['touch {marker}']", f"!!python/{tag} ''"):
            assert isinstance(load(folder, f"run_config: {{output_dir: {value}}}\n"), Refused)
            assert isinstance(load(folder, SHIPPED[0], f"run_config.output_dir={value}"), Refused)
    assert not marker.exists()


def test_so_many_cases_are_tried(request: pytest.FixtureRequest) -> None:
    assert_tried(request, {"config": 4500})
