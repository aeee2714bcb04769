#!/usr/bin/env bash
# Trains several methods with several seeds, evaluates them on all tasks, and writes one table. Runs
# overnight on two cores. Complete runs are skipped, and interrupted runs are resumed.
#
#   scripts/leaderboard.sh [OPTIONS] [KEY=VALUE ...]   (KEY=VALUE replaces a value for all methods)
#
#   --config FILE      the benchmark and the recipe          (default: configs/human_bfs.yaml)
#   --methods "M ..."  the methods, in this order            (default: "factorised pooled v3
#                      kernel composition homology ensemble")
#   --seeds "N ..."    the seeds                             (default: "47 48 49")
#   --members "M ..."  the methods of the ensemble           (default: "factorised pooled kernel")
#   --beside "B,B"     baselines with which the first seed is compared, by a difference with a
#                      confidence interval; "" for none      (default: composition)
#   --transfer "S ..." other species to evaluate the first seed's models on, such as "yeast ecoli"
#   --output DIR       the directory of leaderboard.csv, leaderboard.md, and a directory for each
#                      method and seed                       (default: runs/leaderboard)
#   -h, --help         this text
#
# kernel, composition and homology are baselines: they hardly depend on the seed, so they run once,
# and predict as many interactions as factorised with the first seed. The ensemble averages ranks.
# v3 is a small model for the CPU; for a large model and a larger language model on a GPU:
#   export ACCELERATE="--config_file accelerate_configs/single_gpu.yaml"
#   large="data_config.embeddings.model_name=facebook/esm2_t33_650M_UR50D"
#   scripts/leaderboard.sh --methods "factorised pooled kernel composition homology" $large
#   scripts/leaderboard.sh --methods v3 --config configs/v3.yaml
#   scripts/leaderboard.sh --methods ensemble $large
#
# From the environment: ACCELERATE, the options of `accelerate launch`; without them, one process.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
refuse() { echo "scripts/leaderboard.sh: error: $1; see scripts/leaderboard.sh --help" >&2; exit 2; }

config="" output="" transfer="" beside="composition" members="factorised pooled kernel" seeds="47 48 49"
methods="factorised pooled v3 kernel composition homology ensemble" overrides=()
while (($#)); do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --*) (($# > 1)) || refuse "$1 needs a value, or is not an option" ;;&
    --config) config="$(absolute "$2")"; shift ;;
    --methods) methods="$2"; shift ;;
    --seeds) seeds="$2"; shift ;;
    --members) members="$2"; shift ;;
    --beside) beside="$2"; shift ;;
    --transfer) transfer="$2"; shift ;;
    --output) output="$(absolute "$2")"; shift ;;
    --*) refuse "$1 is not an option" ;;
    *=*) overrides+=("$1") ;;
    *) refuse "'$1' is neither an option nor KEY=VALUE" ;;
  esac
  shift
done

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "scripts/refit.sh"
config="${config:-configs/human_bfs.yaml}" output="${output:-runs/leaderboard}"
first="${seeds%% *}"
launch=(python)
if [[ -n "${ACCELERATE:-}" ]]; then
  read -ra options <<<"$ACCELERATE"
  launch=(accelerate launch --quiet "${options[@]}")
fi

# What a method changes in the configuration. A config of v3 is used as it is.
settings() {
  case "$1" in
    pooled) echo "model_config.model=pooled model_config.mlp_head.hidden_dims=[256,64]" ;;
    factorised) echo "model_config.model=factorised" ;;
    v3)
      echo "model_config.model=v3"
      if [[ "$config" != *v3.yaml ]]; then
        echo "model_config.d_model=64 model_config.n_heads=4 model_config.encoder_layers=1"
        echo "model_config.cross_attn_layers=1 model_config.mlp_head.hidden_dims=[64]"
        echo "model_config.residues_per_state=16 training_config.epochs=3 training_config.batch_size=64"
        echo "data_config.dataloader.sampling.negatives.per_positive=1.0"
      fi ;;
  esac
}

# Runs a script for one method and seed: SCRIPT FOLDER METHOD SEED [OPTION ...] [-- KEY=VALUE ...]
stage() {
  local script="$1" folder="$2" method="$3" seed="$4" options=()
  shift 4
  while (($#)) && [[ "$1" != -- ]]; do options+=("$1"); shift; done
  mapfile -t own < <(settings "$method" | tr ' ' '\n')
  "${launch[@]}" "$script" --config "$config" ${options[@]+"${options[@]}"} --set \
    "run_config.output_dir=$folder" "run_config.seed=$seed" run_config.pretrain_run_id=run \
    run_config.eval_run_id=run ${own[@]+"${own[@]}"} ${overrides[@]+"${overrides[@]}"} "${@:2}"
}

folder_of() { # METHOD SEED: where the run is; a baseline has one for all seeds
  if [[ -d "$output/$1/seed$2" ]]; then echo "$output/$1/seed$2"; else echo "$output/$1/seed$first"; fi
}
is_judged() { compgen -G "$1/logs/*/evaluate/${2:-run}/config.yaml" >/dev/null; }
baselines() { # METHOD SEED: what it is compared with
  case "$1 $2" in
    kernel* | composition* | homology*) echo "evaluate.baselines=[]" ;;
    *" $first") echo "evaluate.baselines=[$beside]" ;;
    *) echo "evaluate.baselines=[]" ;;
  esac
}
say() { echo "== $(date +%H:%M) $1" >&2; }

train() { # FOLDER METHOD SEED RUN [KEY=VALUE ...]: unless that is complete
  local logs="$1/logs/$2/pretrain/$4" resume=()
  if is_complete "$logs/log.log"; then return; fi
  say "$2, seed $3: training ($4)"
  if [[ -f "$logs/config.yaml" ]]; then resume=(--resume); fi
  python -m benchmarks.leaderboard note "$1" "$2"
  stage pretrain.py "$1" "$2" "$3" ${resume[@]+"${resume[@]}"} -- \
    "run_config.pretrain_run_id=$4" "${@:5}" >/dev/null
}

run_model() { # METHOD SEED
  local folder="$output/$1/seed$2" run=run refit checkpoint
  train "$folder" "$1" "$2" choice
  mapfile -t refit < <(refit_settings "$folder/models/$1/pretrain/choice/best_model")
  if ((${#refit[@]})); then train "$folder" "$1" "$2" run "${refit[@]}"; else run=choice; fi
  checkpoint="$folder/models/$1/pretrain/$run/best_model"
  if ! is_judged "$folder"; then
    say "$1, seed $2: evaluation"
    stage evaluate.py "$folder" "$1" "$2" --checkpoint "$checkpoint" -- \
      ${refit[@]+"${refit[@]}"} "$(baselines "$1" "$2")"
  fi
  for species in $transfer; do
    if [[ "$2" == "$first" ]] && ! is_judged "$folder" "$species"; then
      say "$1, seed $2: evaluation on $species"
      stage evaluate.py "$folder" "$1" "$2" --checkpoint "$checkpoint" --tasks pairs topology -- \
        ${refit[@]+"${refit[@]}"} "data_config.benchmark.species=$species" "run_config.eval_run_id=$species"
    fi
  done
}

run_predictor() { # METHOD SEED MODEL ...: a baseline or the ensemble
  local folder="$output/$1/seed$2" like=() threshold
  if is_judged "$folder"; then return; fi
  say "$1, seed $2: scoring of the pairs and evaluation"
  for model in "${@:3}"; do like+=("$(folder_of "$model" "$2")"); done
  threshold="$(python -m benchmarks.leaderboard predict "$folder" "$1" --config "$config" \
    --set "run_config.seed=$2" ${overrides[@]+"${overrides[@]}"} --like "${like[@]}")"
  stage evaluate.py "$folder" "$1" "$2" --predictions "$folder/predictions.txt.gz" -- \
    evaluate.decision_threshold.mode=fixed "evaluate.decision_threshold.value=$threshold" \
    "$(baselines "$1" "$2")"
}

trained() { for model in factorised pooled v3; do
  if [[ -d "$output/$model/seed$first" ]]; then echo "$model"; return; fi
done; refuse "a baseline needs a trained model of the same seed, whose number of calls it copies"; }

for method in $methods; do
  case "$method" in
    pooled | factorised | v3) for seed in $seeds; do run_model "$method" "$seed"; done ;;
    kernel | composition | homology)
      model="$(trained)"
      run_predictor "$method" "$first" "$model" ;;
    ensemble)
      present=()
      for member in $members; do
        if [[ -d "$output/$member" ]]; then present+=("$member"); fi
      done
      for seed in $seeds; do run_predictor ensemble "$seed" "${present[@]}"; done ;;
    *) refuse "unknown method '$method'" ;;
  esac
done
python -m benchmarks.leaderboard render "$output"
