#!/usr/bin/env bash
# The whole pipeline on a small generated benchmark: no network, no GPU, about 4 minutes on one core.
#
#   scripts/demo.sh           sets up the environment, generates the data, trains v3 (pretrain, then
#                             finetune) and the pooled baseline, evaluates and compares both
#   scripts/demo.sh --help    this text
#
# All files are written to runs/, data/demo/ and cache/. Environment variables:
#   ACCELERATE   options of `accelerate launch`; by default those of a CPU
#   SET          config overrides. Another seed gives another benchmark and language model:
#                d=data_config.benchmark; SET="run_config.seed=1 $d.root_dir=data/demo1 \
#                  $d.functional_dir=data/demo1/functional \
#                  data_config.embeddings.model_name=data/demo1/esm" scripts/demo.sh
set -euo pipefail

case "${1:-}" in
  "") ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) echo "demo.sh: error: it takes no arguments; see scripts/demo.sh --help" >&2; exit 2 ;;
esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# One thread: with matrices this small, a second thread costs more time than it saves.
export ACCELERATE="${ACCELERATE:---config_file accelerate_configs/cpu.yaml --num_cpu_threads_per_process 1}"
export HF_HUB_OFFLINE=1
output=runs
if [[ " ${SET:-} " =~ \ run_config\.output_dir=([^\ ]+) ]]; then output="${BASH_REMATCH[1]}"; fi
mkdir -p "$output/demo"

# Runs a command with all its output in a log, and says how long it took: step LOG TITLE COMMAND...
step() {
  local log="$output/demo/$1.log" title="$2" started=$SECONDS code=0
  shift 2
  printf '%-50s%-31s' "$title" "$log"
  "$@" > "$log" 2>&1 || code=$?
  if ((code)); then
    printf 'failed\n%s ends with:\n' "$log"
    tail -n 5 "$log"
    exit "$code"
  fi
  printf '%4d s\n' $((SECONDS - started))
}
# Prints the last match in the log of a step: last_match LOG 'text before\(wanted\)text after'
last_match() { sed -n "s/.*$2.*/\1/p" "$output/demo/$1.log" | tail -n 1; }
model_of() { last_match "$1" ' stage_complete | .*checkpoint=\(.*best_model\)'; }
folder_of() { last_match "$1" ' csv_written | path=\(.*\)\/evaluate.csv'; }

echo "RELIC's demo: two models learn to predict interactions of SYNTHETIC proteins. The numbers"
echo "show whether the program learns; they say nothing about real proteins. On one free core, the"
echo "steps take about 2 minutes, 1 minute, 15 seconds and 45 seconds; the logs show their progress."
echo
echo "step                                              log                             time"
step v3_pretrain "1. generate the data, pretrain v3" bash scripts/v3.sh pretrain_only configs/demo.yaml
CHECKPOINT="$(model_of v3_pretrain)"
export CHECKPOINT
step v3_judged "2. finetune v3 on the hardest pairs, evaluate it" \
  bash scripts/v3.sh finetune_from_pretrain configs/demo.yaml
tuned="$(model_of v3_judged)"
step pooled_pretrain "3. pretrain the pooled baseline" \
  bash scripts/v3.sh pretrain_only configs/demo_pooled.yaml
CHECKPOINT="$(model_of pooled_pretrain)"
step pooled_judged "4. evaluate the pooled baseline" \
  bash scripts/v3.sh eval_only configs/demo_pooled.yaml

echo
judged="$(folder_of v3_judged)"
python evaluate.py --compare "$judged" "$(folder_of pooled_judged)" --output "$output/demo"
echo
echo "See:"
curves="$(last_match v3_pretrain ' csv_written | path=\(.*\)\/training_step.csv')/training_curves.png"
for file in "$judged/report.html" "$output/demo/compare.html" "$curves"; do
  if [[ -e "$file" ]]; then echo "  $file"; fi
done
echo "Next, score other proteins with the model, or train on your own interactions (docs/own_data.md):"
echo "  python evaluate.py --checkpoint $tuned \\"
echo "    --fasta examples/own_proteins/proteins.fasta --output network.tsv"
