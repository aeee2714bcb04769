#!/usr/bin/env bash
# The standard launcher: runs stages one after another, each on the result of the previous stage.
#
#   scripts/v3.sh full_pipeline          [CONFIG]   pretrain, finetune, evaluate
#   scripts/v3.sh pretrain_only          [CONFIG]
#   scripts/v3.sh finetune_from_pretrain [CONFIG]   finetune, evaluate; from $CHECKPOINT, or else
#                                                   from the newest pretrained model of the config
#   scripts/v3.sh eval_only              [CONFIG]   $CHECKPOINT, or else the newest model
#
# CONFIG is configs/v3.yaml by default. Environment variables:
#   CHECKPOINT   a best_model directory
#   ACCELERATE   options of `accelerate launch`, such as "--config_file accelerate_configs/cpu.yaml"
#   SET          config overrides, such as "training_config.epochs=5 run_config.output_dir=/scratch"
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

mode="${1:-}"
config="${2:-configs/v3.yaml}"
case "$mode" in
  full_pipeline | pretrain_only | finetune_from_pretrain | eval_only) ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

read -ra launch_options <<<"${ACCELERATE:-}"
read -ra overrides <<<"${SET:-}"

# Runs one stage; its stdout is the stage's result (a training stage prints its best model).
stage() {
  local script="$1"
  shift
  accelerate launch --quiet "${launch_options[@]}" "$script" --config "$config" \
    ${overrides[@]+--set "${overrides[@]}"} "$@"
}

checkpoint="${CHECKPOINT:-}"
from_checkpoint() { if [[ -n "$checkpoint" ]]; then echo "--checkpoint"; echo "$checkpoint"; fi; }

if [[ "$mode" == full_pipeline || "$mode" == pretrain_only ]]; then
  checkpoint="$(stage pretrain.py | tail -n 1)"
fi
if [[ "$mode" == full_pipeline || "$mode" == finetune_from_pretrain ]]; then
  mapfile -t from < <(from_checkpoint)
  checkpoint="$(stage finetune.py "${from[@]}" | tail -n 1)"
fi
if [[ "$mode" == pretrain_only ]]; then
  echo "$checkpoint"
else
  mapfile -t from < <(from_checkpoint)
  stage evaluate.py "${from[@]}"
fi
