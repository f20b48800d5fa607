#!/usr/bin/env bash
# Build the virtual environment at .venv, or bring it up to date. On a GPU machine pip takes the CUDA build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3.11}
if ! "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
  if "$(command -v python3 || echo false)" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=python3
  else
    echo "error: Python 3.11 or newer is needed: install it, or name it: make setup PYTHON=/path/to/python" >&2
    exit 2
  fi
fi

if ! [ -x .venv/bin/python ]; then
  echo "setup: building .venv with $("$python" --version)"
  if ! "$python" -m venv .venv; then
    # Debian and Ubuntu ship Python without venv.
    rm -rf .venv
    echo "setup: installing python3-venv"
    apt-get update -q && apt-get install -q -y python3-venv
    "$python" -m venv .venv
  fi
fi
echo "setup: installing the pinned requirements (about a minute, 2 GB the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
# The checkout itself goes on the environment's path: jobs and Ray's workers import samplecnn from here.
.venv/bin/python -c 'import os, site; open(site.getsitepackages()[0] + "/samplecnn.pth", "w").write(os.getcwd())'
echo "setup: done"
