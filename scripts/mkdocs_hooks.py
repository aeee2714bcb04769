"""Hook of MkDocs that orders the pages of docs/; pages that are not listed here come last."""

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
    """Set the site's navigation: the listed pages that exist, then all other pages."""
    docs = Path(config["docs_dir"])
    rest = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    navigation = []
    for title, names in SECTIONS.items():
        pages = [f"{name}.md" for name in names if f"{name}.md" in rest]
        rest.difference_update(pages)
        navigation.append({title: pages})
    config["nav"] = [*navigation, *([{"More": sorted(rest)}] if rest else [])]
    return config
