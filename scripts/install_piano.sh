#!/usr/bin/env bash
# What the tests of rendered MIDI need: FluidSynth and its small piano (Debian packages, some 20 MB). Run by "make test".
set -euo pipefail

packages="fluidsynth timgm6mb-soundfont"
# shellcheck disable=SC2086
if dpkg -s $packages >/dev/null 2>&1; then
  exit 0
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing $packages (apt, some 20 MB), with which MIDI files are rendered"
  # shellcheck disable=SC2086
  apt-get update -q && apt-get install -q -y --no-install-recommends $packages ||
    echo "test: could not install $packages: the tests that render MIDI files are skipped" >&2
else
  echo "test: not installed: apt-get install -y $packages; without them the tests that render MIDI files are skipped" >&2
fi
