#!/usr/bin/env bash
# What speaks in tests and benchmarks of what is not playing: eSpeak NG (a Debian package, some 12 MB). Run by "make test".
set -euo pipefail

command -v espeak-ng >/dev/null || "$(dirname "$0")/install_packages.sh" "12 MB" \
  "which speaks" "the tests of speech are skipped" espeak-ng
