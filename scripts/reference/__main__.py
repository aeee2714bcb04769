"""Write the reference pages, from the project's folder: `python -m scripts.reference [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.reference import PAGES, REFERENCE

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE
folder.mkdir(exist_ok=True)
for name, generate in PAGES.items():
    (folder / name).write_text(generate())
