#!/usr/bin/env bash
# Install Debian packages that some tests need, as root; say what is skipped without them otherwise, and fail never.
# install_packages.sh SIZE WHAT_FOR SKIPPED PACKAGE...
set -euo pipefail

size=$1 what_for=$2 skipped=$3
shift 3
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing $* (apt, some $size), $what_for"
  # RUNLEVEL=1: Debian then starts no service that it installs.
  apt-get update -q && RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$@" ||
    echo "test: could not install $*: $skipped" >&2
else
  echo "test: not installed: apt-get install -y $*; without that $skipped" >&2
fi
