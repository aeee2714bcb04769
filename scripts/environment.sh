# Sourced by the other scripts: go to the project's root and have an environment to run in: the
# active virtual environment (or conda environment), else .venv, which is made. Whatever it lacks of
# requirements.txt, at exactly these versions, is installed; once per version of that file.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]]; then
  if [[ ! -x .venv/bin/python ]]; then
    echo "Making a virtual environment in .venv" >&2
    "${PYTHON:-python3}" -m venv .venv
  fi
  source .venv/bin/activate
fi

environment_stamp="${VIRTUAL_ENV:-${CONDA_PREFIX:-}}/.relic-requirements"
if ! cmp --silent requirements.txt "$environment_stamp"; then
  echo "Installing requirements.txt into ${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" >&2
  python -m pip install --quiet --requirement requirements.txt
  # In an environment that somebody else keeps the stamp cannot be left; pip has found all there.
  cp requirements.txt "$environment_stamp" 2> /dev/null || true
fi
