#!/usr/bin/env bash
# Builds the documentation from docs/ into .site/ and checks it: every link and anchor must exist.
# Needs no network. The pages open from disk; searching them needs a server.
#
#   scripts/docs.sh [OPTIONS OF mkdocs build]     build and check; open .site/index.html
#   scripts/docs.sh serve                         serve at http://127.0.0.1:8000 with every change
#   python -m scripts.reference                   rewrite docs/reference/ from the code
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

export NO_MKDOCS_2_WARNING=1
if [[ "${1:-}" == serve ]]; then
  exec mkdocs serve --config-file scripts/mkdocs.yml "${@:2}"
fi
# (`--quiet` would make `--strict` overlook warnings.)
exec mkdocs build --strict --config-file scripts/mkdocs.yml "$@"
