"""Hooks of MkDocs that order the pages of docs/ and show where the built site is.

Pages that are not listed here come last.
"""

from __future__ import annotations

import logging
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


def on_post_build(config: Any) -> None:
    """Say how to open the site; `mkdocs serve`, which sets an address, says that itself."""
    if not config["site_url"]:
        index = Path(config["site_dir"], "index.html")
        logging.getLogger("mkdocs").info(
            "Open %s in a browser, or run scripts/docs.sh serve to search the site as well.", index
        )
