#!/usr/bin/env bash
# What the tests of the report page need: Debian's Chromium (some 300 MB unpacked). Run by "make test".
set -euo pipefail

command -v chromium >/dev/null || "$(dirname "$0")/install_packages.sh" "100 MB" \
  "in which report pages are opened" "the tests that open report pages are skipped" chromium
