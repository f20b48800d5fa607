#!/usr/bin/env bash
# Write constraints.txt and constraints-k80.txt: every version that the requirements resolve to today, each in a fresh
# environment. torch is pinned without a +cpu or +cu suffix and without hashes: CPU and GPU machines take different builds.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

pin() {  # name of the constraints file; files and names to be resolved
  local constraints=$1
  shift
  "${PYTHON:-python3.11}" -m venv "$fresh/$constraints"
  "$fresh/$constraints/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  {
    echo "# Every version, as resolved by 'make constraints' on $(date -u +%F). Not edited by hand."
    "$fresh/$constraints/bin/python" -m pip freeze | sed -E 's/^(torch(audio)?==[0-9.]+)\+.*/\1/'
  } > "$constraints"
  echo "$constraints: $(grep -c == "$constraints") versions"
}

for file in requirements.txt requirements-dev.txt requirements-k80.txt; do
  sed '/^-c /d' "$file" > "$fresh/$file"
done
sed '/^-r /d' "$fresh/requirements-dev.txt" > "$fresh/tools.txt"
pin constraints.txt -r "$fresh/requirements-dev.txt"
pin constraints-k80.txt -r "$fresh/requirements-k80.txt" -r "$fresh/tools.txt"
