# Sourced by the other scripts: go to the project's root and have an environment to run in.
# An active virtual environment (or conda environment) is used as it is found, unless it lacks a
# requirement; without one, .venv is made. Installing happens once per version of requirements.txt.
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
  cp requirements.txt "$environment_stamp"
fi
