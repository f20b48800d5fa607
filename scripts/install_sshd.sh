#!/usr/bin/env bash
# What the test of `ray up` needs: sshd and rsync (Debian packages, some 2 MB); no service is started. Run by "make test-cluster".
set -euo pipefail

packages=(openssh-server openssh-client rsync iproute2 openssl)
dpkg -s "${packages[@]}" >/dev/null 2>&1 || "$(dirname "$0")/install_packages.sh" "2 MB" \
  "with which a cluster is launched on this machine" "the test of ray up is skipped" "${packages[@]}"
