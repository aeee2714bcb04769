"""Runs an entry script that saves its work after every tile and batch instead of every minute.

    python -m tests.hasty evaluate.py --config ...

On the tiny benchmark nothing takes a minute; interrupted, nothing would have been saved.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from common.data.embeddings import fill  # noqa: E402 (found from here on)
from common.inference import scoring  # noqa: E402

if __name__ == "__main__":
    scoring.SAVE_EVERY = 0.0
    fill.PIECE_SECONDS = 0.0
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
