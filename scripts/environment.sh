# Sourced by the other scripts: goes to the project's root and provides an environment: the active
# virtual (or conda) environment, or else .venv, which it creates if needed. It installs there what
# is missing of requirements.txt, at exactly these versions, once per version of that file.
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
  # If the environment belongs to somebody else, the stamp cannot be written; pip checks each time.
  cp requirements.txt "$environment_stamp" 2> /dev/null || true
fi
