#!/usr/bin/env bash
# The one check: format, lint, types, tests. Sets itself up. Arguments go to pytest:
#   scripts/test.sh -k ohem
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

checked=(pretrain.py finetune.py evaluate.py common tests benchmarks)
ruff format --check .
ruff check .
mypy "${checked[@]}"
python -m pytest "$@"
