# Sourced by the other scripts: changes to the project's root directory and provides an environment,
# which is the active virtual (or conda) environment, or else .venv, which is created if needed.
# Installs the exact versions of requirements.txt there, once for each version of that file.
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
  # If the environment is not writable, the stamp is not written, and pip checks each time.
  cp requirements.txt "$environment_stamp" 2> /dev/null || true
fi
