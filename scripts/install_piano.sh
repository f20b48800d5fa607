#!/usr/bin/env bash
# What the tests of rendered MIDI need: FluidSynth and its small piano (Debian packages, some 20 MB). Run by "make test".
set -euo pipefail

packages=(fluidsynth timgm6mb-soundfont)
dpkg -s "${packages[@]}" >/dev/null 2>&1 || "$(dirname "$0")/install_packages.sh" "20 MB" \
  "with which MIDI files are rendered" "the tests that render MIDI files are skipped" "${packages[@]}"
