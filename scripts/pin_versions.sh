#!/usr/bin/env bash
# Write constraints.txt: every version that requirements-dev.txt resolves to today, in a fresh environment.
# torch is pinned without a +cpu or +cu suffix and without hashes: CPU and GPU machines take different builds of it.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3.11}" -m venv "$fresh/venv"
for file in requirements.txt requirements-dev.txt; do
  sed '/^-c /d' "$file" > "$fresh/$file"
done
"$fresh/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$fresh/requirements-dev.txt"
{
  echo "# Every version, as resolved by 'make constraints' on $(date -u +%F). Not edited by hand."
  "$fresh/venv/bin/python" -m pip freeze | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'
} > constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) versions"
