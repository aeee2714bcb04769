#!/usr/bin/env bash
# The one check: format, lint, types, tests. Sets itself up. Arguments go to pytest:
#   scripts/test.sh -k ohem
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

checked=(pretrain.py finetune.py evaluate.py common tests benchmarks)
ruff format --check .
ruff check .
mypy "${checked[@]}"
# Two at a time, a file's tests on one worker (they share launched projects), in the given order.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
