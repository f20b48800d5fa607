#!/usr/bin/env bash
# What the tests of the report page need: Debian's Chromium (some 300 MB unpacked). Run by "make test".
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing chromium (apt, some 100 MB), in which report pages are opened"
  apt-get update -q && apt-get install -q -y --no-install-recommends chromium ||
    echo "test: could not install chromium: the tests that open report pages are skipped" >&2
else
  echo "test: not installed: apt-get install -y chromium; without it the tests that open report pages are skipped" >&2
fi
