#!/usr/bin/env bash
# What the test of `ray up` needs: sshd and rsync (Debian packages, some 2 MB); no service is started. Run by "make test-cluster".
set -euo pipefail

packages="openssh-server openssh-client rsync iproute2 openssl"
# shellcheck disable=SC2086
if dpkg -s $packages >/dev/null 2>&1; then
  exit 0
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing $packages (apt, some 2 MB), with which a cluster is launched on this machine"
  # RUNLEVEL=1: Debian then starts no service that it installs.
  # shellcheck disable=SC2086
  apt-get update -q && RUNLEVEL=1 apt-get install -q -y --no-install-recommends $packages ||
    echo "test: could not install $packages: the test of ray up is skipped" >&2
else
  echo "test: not installed: apt-get install -y $packages; without them the test of ray up is skipped" >&2
fi
