#!/usr/bin/env bash
# Submits pretraining, finetuning and evaluation to SLURM. Each stage starts from the model of the
# previous stage, once that has succeeded; if a stage fails, the later ones are cancelled.
#
#   scripts/slurm/pipeline.sh configs/v3.yaml my_run --nodes=2 --gpus-per-node=4 --account=lab
#
# Arguments after the run id are passed to sbatch for each stage. The environment variables MODULES,
# PROCESSES, ACCELERATE and SET are those of v3.sbatch. Prints each stage and its job.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
if (($# < 2)); then usage >&2; exit 2; fi
config="$1" run_id="$2"
options=("${@:3}")
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
read -ra overrides <<<"${SET:-}"

# A configuration with a mistake is rejected here, before anything waits in the queue.
mapfile -t models < <(python - "$config" "$run_id" "${overrides[@]}" <<'END'
import sys
from common.command_line import run_script
from common.config_file import load_config
from common.run import run_directory

def print_models():
    config, run_id, *overrides = sys.argv[1:]
    for stage in ("pretrain", "finetune"):
        models = run_directory("models", stage, load_config(config, stage, overrides))
        print(models / run_id / "best_model")

sys.argv[0] = "pipeline.sh"
run_script(print_models)
END
)
if ((${#models[@]} != 2)); then exit 2; fi

# Submits a stage that waits for the previous one, if there is one.
job=""
submit() {
  local script="$1" checkpoint="${2:-}"
  local wait=()
  if [[ -n "$job" ]]; then wait=(--dependency="afterok:$job" --kill-on-invalid-dep=yes); fi
  job="$(sbatch --parsable --job-name="relic-${script%.py}" "${wait[@]}" "${options[@]}" \
    scripts/slurm/v3.sbatch "$script" "$config" "$run_id" ${checkpoint:+"$checkpoint"})"
  job="${job%%;*}"
  echo "$script: job $job"
}
submit pretrain.py
submit finetune.py "${models[0]}"
submit evaluate.py "${models[1]}"
