#!/usr/bin/env bash
# The whole pipeline on the generated, synthetic benchmark: no network, no GPU, a few minutes.
# Sets itself up. Trains v3 (pretrain, finetune) and the pooled baseline, judges both, and prints
# their test figures side by side.
#
#   scripts/demo.sh            everything goes to runs/, data/demo/ and cache/
#   SET="run_config.seed=1 ..." scripts/demo.sh      config overrides, as in scripts/v3.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

export ACCELERATE="${ACCELERATE:---config_file accelerate_configs/cpu.yaml}"
export HF_HUB_OFFLINE=1

echo "== v3: pretrain, finetune, evaluate (synthetic data)" >&2
bash scripts/v3.sh full_pipeline configs/demo.yaml | tee /tmp/relic-demo-v3.$$
echo "== pooled baseline: pretrain, evaluate (synthetic data)" >&2
CHECKPOINT="$(bash scripts/v3.sh pretrain_only configs/demo_pooled.yaml | tail -n 1)"
CHECKPOINT="$CHECKPOINT" bash scripts/v3.sh eval_only configs/demo_pooled.yaml
