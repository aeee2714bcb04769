#!/usr/bin/env bash
# A model of real human interactions in one command, on a laptop with an internet connection. It
# fetches the benchmark PRING and the language model ESM-2 8M, embeds 10,000 proteins, trains the
# model of configs/human_bfs.yaml twice (see scripts/refit.sh), evaluates it, and scores a few
# proteins with it. This takes about half an hour on two idle cores, and 10 GB of disk. Started
# again, the script continues where it stopped.
#
#   scripts/real.sh [OPTIONS] [KEY=VALUE ...]      (KEY=VALUE replaces a value of the configuration)
#
#   --benchmark DIR         a copy of the benchmark's files; missing files are downloaded
#   --url URL               a mirror of the benchmark's repository
#   --language-model NAME   another ESM on the hub, or a local directory of one
#   --cache DIR             where embeddings and parsed files are kept      (default: cache)
#   --output DIR            where logs and the checkpoint are written       (default: runs/real)
#   --threads N             how many CPU threads are used                   (default: all)
#   -h, --help              this text
#
# From the environment: HF_ENDPOINT (a mirror of the hub), HTTPS_PROXY, and ACCELERATE: options of
# `accelerate launch`, such as "--config_file accelerate_configs/multi_gpu.yaml". Without them, one
# process uses the GPU if there is one, and otherwise the CPU.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
refuse() { echo "scripts/real.sh: error: $1; see scripts/real.sh --help" >&2; exit 2; }

output="" overrides=()
while (($#)); do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --*) (($# > 1)) || refuse "$1 needs a value, or is not an option" ;;&
    --benchmark) overrides+=("data_config.benchmark.root_dir=$(absolute "$2")"); shift ;;
    --url) overrides+=("data_config.benchmark.download_url=$2"); shift ;;
    --language-model)
      name="$2"
      if [[ -d "$name" ]]; then name="$(absolute "$name")"; fi
      overrides+=("data_config.embeddings.model_name=$name"); shift ;;
    --cache)
      overrides+=("data_config.embeddings.cache_dir=$(absolute "$2")/embeddings"
        "data_config.benchmark.cache_dir=$(absolute "$2")/pring"); shift ;;
    --output) output="$(absolute "$2")"; shift ;;
    --threads) export OMP_NUM_THREADS="$2"; shift ;;
    --*) refuse "$1 is not an option" ;;
    *=*) overrides+=("$1") ;;
    *) refuse "'$1' is neither an option nor KEY=VALUE" ;;
  esac
  shift
done

started=$SECONDS
say() { echo "== $((SECONDS - started)) s: $1" >&2; }

say "1 of 5: the Python environment (a minute or two if packages are missing)"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "scripts/refit.sh"
output="${output:-runs/real}"
overrides+=("run_config.output_dir=$output" "run_config.eval_run_id=real")
launch=(python)
if [[ -n "${ACCELERATE:-}" ]]; then
  read -ra options <<<"$ACCELERATE"
  launch=(accelerate launch --quiet "${options[@]}")
fi
stage() { "${launch[@]}" "$1" --config configs/human_bfs.yaml "${@:2}"; }
logs="$output/logs/factorised" models="$output/models/factorised/pretrain"
checkpoint="$models/real/best_model"
train() { # RUN [KEY=VALUE ...]
  local resume=()
  if is_complete "$logs/pretrain/$1/log.log"; then return; fi
  if [[ -f "$logs/pretrain/$1/config.yaml" ]]; then resume=(--resume); fi
  stage pretrain.py ${resume[@]+"${resume[@]}"} --set "${overrides[@]}" \
    "run_config.pretrain_run_id=$1" "${@:2}" >/dev/null
}

if is_complete "$logs/pretrain/real/log.log"; then
  say "2 of 5: the threshold has already been chosen"
else
  say "2 of 5: downloads 10 MB of the benchmark and 30 MB of the language model, embeds 8,000\
 proteins (about 12 minutes on two idle cores, once), trains without the held-out proteins, on which\
 the threshold is chosen (about 3 minutes)"
  train choice
fi
mapfile -t refit < <(refit_settings "$models/choice/best_model")
if is_complete "$logs/pretrain/real/log.log"; then
  say "3 of 5: training is complete already"
else
  say "3 of 5: trains the final model on all training pairs (about 3 minutes)"
  train real "${refit[@]}"
fi

if [[ -f "$logs/evaluate/real/config.yaml" ]]; then
  say "4 of 5: the model has already been evaluated"
else
  say "4 of 5: embeds the 2,400 proteins of the test set and of the complexes (about 5 minutes),\
 scores 2 million pairs and evaluates five tasks (half a minute)"
  stage evaluate.py --checkpoint "$checkpoint" --set "${overrides[@]}" "${refit[@]}"
fi

if [[ -f "$output/example.tsv" ]]; then
  say "5 of 5: the example has already been scored"
else
  say "5 of 5: scores the proteins of examples/own_proteins, all against all (seconds); they are\
 made up, so their scores only show that the command works"
  python evaluate.py --checkpoint "$checkpoint" --output "$output/example.tsv" \
    --fasta examples/own_proteins/proteins.fasta
fi

say "done. The results are in $logs/evaluate/real, and the model is $checkpoint
Score your own proteins with it:
  python evaluate.py --checkpoint $checkpoint --fasta proteins.fasta --output network.tsv"
