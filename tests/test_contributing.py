"""The files for contributors agree with what they speak of."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.tiny_benchmark import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_hooks_run_the_installed_versions_on_what_the_check_looks_at() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    check = (ROOT / "scripts" / "test.sh").read_text()
    (checked,) = re.findall(r"^checked=\((.*)\)$", check, re.M)
    assert hooks["mypy"]["entry"] == f"python -m mypy {checked}"
    required = (ROOT / "requirements.txt").read_text()
    for hook in hooks.values():
        program = hook["entry"].split()[2]
        assert f"\n{program}==" in required
        assert program in check


def test_the_citation_is_of_this_version() -> None:
    citation = load("CITATION.cff")
    # What the schema of the format 1.2.0 requires.
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "RELIC contributors"}]
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_changelog_has_known_kinds_of_changes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.M)[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= kinds


def test_the_paths_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:common|tests|scripts|examples|docs)/[\w./]+)", text))
    assert len(named) > 12
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_fast_check_leaves_out_registered_markers() -> None:
    """A misspelt marker would leave out nothing."""
    known = {each.partition(":")[0] for each in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    (expression,) = re.findall(r'-m "(.*?)"', (ROOT / "scripts" / "test.sh").read_text())
    assert set(re.findall(r"not (\w+)", expression)) == known
