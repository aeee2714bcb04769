#!/usr/bin/env bash
# The whole pipeline on the generated, synthetic benchmark: no network, no GPU, a few minutes.
# Sets up its environment. Trains v3 (pretrain, finetune) and the pooled baseline and judges both;
# the metrics of each are printed and saved in runs/logs/{v3,pooled}/evaluate/.
#
#   scripts/demo.sh
#   d=data_config.benchmark; SET="run_config.seed=1 $d.root_dir=data/demo1 \
#     $d.functional_dir=data/demo1/functional data_config.embeddings.model_name=data/demo1/esm" \
#     scripts/demo.sh                         (another seed: another benchmark, another language model)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# One thread: with matrices this small, a second one costs more than it saves.
export ACCELERATE="${ACCELERATE:---config_file accelerate_configs/cpu.yaml --num_cpu_threads_per_process 1}"
export HF_HUB_OFFLINE=1
started=$SECONDS

echo "== v3 on SYNTHETIC data: pretrain, finetune, evaluate" >&2
bash scripts/v3.sh full_pipeline configs/demo.yaml

echo "== pooled baseline on SYNTHETIC data: pretrain, evaluate" >&2
CHECKPOINT="$(bash scripts/v3.sh pretrain_only configs/demo_pooled.yaml | tail -n 1)"
export CHECKPOINT
bash scripts/v3.sh eval_only configs/demo_pooled.yaml

newest() { ls -td "runs/logs/$1/evaluate"/*/evaluate.csv | head -n 1; }
if [[ -z "${SET:-}" ]]; then
  echo
  echo "Test AUROC, synthetic data (v3, then pooled), after $((SECONDS - started)) s:"
  for model in v3 pooled; do
    awk -F, -v model="$model" '$1 == "test" {printf "  %-7s %.4f\n", model, $2}' "$(newest $model)"
  done
fi
