#!/usr/bin/env bash
# All checks: format, lint, types, tests. Sets up its environment. Arguments go to pytest:
#   scripts/test.sh -k ohem
#   scripts/test.sh --fast        without the tests that run whole stages, start programs or take long
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [[ "${1:-}" == --fast ]]; then
  set -- -m "not launch and not two_processes and not pipeline" "${@:2}"
fi
checked=(pretrain.py finetune.py evaluate.py common tests benchmarks scripts examples)
ruff format --check .
ruff check .
mypy "${checked[@]}"
# Two workers; a file's tests (they share launched projects) run on one of them, in the given order.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
