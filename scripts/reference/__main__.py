"""Write the reference pages: `python -m scripts.reference`, from the project's folder."""

from __future__ import annotations

from scripts.reference import PAGES, REFERENCE

for name, generate in PAGES.items():
    REFERENCE.mkdir(exist_ok=True)
    (REFERENCE / name).write_text(generate())
