"""MkDocs' hook that orders the pages of docs/; a page that is not named here comes last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTIONS = {
    "Start": ("index", "tutorial"),
    "Use": (
        "pring",
        "own_data",
        "own_proteins",
        "sharing",
        "reading_results",
        "evaluation",
        "configuration",
        "language_models",
        "scaling",
        "resuming",
        "hpc",
        "troubleshooting",
    ),
    "Extend": ("architecture", "extending"),
    "Background": (
        "method",
        "leaderboard",
        "experiments",
        "performance",
        "glossary",
    ),
    "Reference": (
        "reference/configuration",
        "reference/command_line",
        "reference/artifacts",
        "reference/events",
        "reference/exit_codes",
    ),
}


def on_config(config: Any) -> Any:
    """Set the navigation: the pages above that exist, then all others."""
    docs = Path(config["docs_dir"])
    rest = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    navigation = []
    for title, names in SECTIONS.items():
        pages = [f"{name}.md" for name in names if f"{name}.md" in rest]
        rest.difference_update(pages)
        navigation.append({title: pages})
    config["nav"] = [*navigation, *([{"More": sorted(rest)}] if rest else [])]
    return config
