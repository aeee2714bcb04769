"""The documentation: it builds without a network, its links exist, its reference is current."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scripts.reference import PAGES, REFERENCE
from scripts.reference.artifacts import FOLDERS
from scripts.reference.events import logged_events
from tests.tiny_benchmark import ROOT, TinyProject

# Pages that no site contains: their links are checked here.
LOOSE = [*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob("configs/**/*.md")]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as scripts/docs.sh does, without its check of the environment."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", str(config), "--site-dir", str(site)],
        capture_output=True,
        text=True,
        check=False,
    )


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "run: python -m scripts.reference"


def test_the_reference_has_no_other_pages() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(ROOT / "scripts" / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path).with_suffix(".md") for path in tmp_path.rglob("*.html")}
    docs = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert pages == docs | {Path("404.md")}
    loaded = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(?:https?:)?//[^ >]*")
    for page in tmp_path.rglob("*.html"):
        assert not loaded.findall(page.read_text()), page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_a_broken_link_and_a_broken_anchor_fail(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "scripts").mkdir()
    for name in ("mkdocs.yml", "mkdocs_hooks.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    page = tmp_path / "docs" / "index.md"
    page.write_text(page.read_text() + "\n[a](missing.md) [b](own_data.md#missing-part)\n")
    done = build(tmp_path / "scripts" / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "missing.md" in done.stdout + done.stderr
    assert "#missing-part" in done.stdout + done.stderr


@pytest.mark.parametrize("page", LOOSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_other_pages_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://|mailto:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_a_run_logs_and_leaves_what_the_reference_lists(
    pretrained: tuple[TinyProject, Path],
) -> None:
    project, best = pretrained
    fields: dict[str, set[str]] = {}
    for name, names in logged_events():
        fields.setdefault(name, set()).update(names)
    listed = [pattern for names in FOLDERS.values() for pattern in names]
    for log in project.output.rglob("log.log"):
        for line in log.read_text().splitlines():
            name, *pairs = line.split(" ", 3)[3].split(" | ")
            logged = {pair.partition("=")[0] for pair in pairs}
            assert logged <= fields[name] or "…" in fields[name], line
        for path in log.parent.iterdir():
            assert any(fnmatchcase(path.name, pattern) for pattern in listed), path
    for path in best.iterdir():
        assert any(fnmatchcase(path.name, pattern) for pattern in listed), path
