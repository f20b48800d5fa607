#!/usr/bin/env bash
# What speaks in tests and benchmarks of what is not playing: eSpeak NG (a Debian package, some 12 MB). Run by "make test".
set -euo pipefail

if command -v espeak-ng >/dev/null; then
  exit 0
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing espeak-ng (apt, some 12 MB), which speaks"
  apt-get update -q && apt-get install -q -y --no-install-recommends espeak-ng ||
    echo "test: could not install espeak-ng: the tests of speech are skipped" >&2
else
  echo "test: not installed: apt-get install -y espeak-ng; without it the tests of speech are skipped" >&2
fi
