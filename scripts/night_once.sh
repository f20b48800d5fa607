#!/usr/bin/env bash
# One night without a head that is always on: start the cluster, grade, take it down, after a failure or Ctrl-C too.
# For a scheduler on a machine of yours: scripts/night_once.sh [cluster.yaml]. Its exit code is the night's.
set -euo pipefail
cluster=${1:+$(realpath -- "$1")} # as it is meant where this was called
cd "$(dirname "$0")/.."
cluster=${cluster:-cluster.yaml}
export RAY_AUTH_MODE=token
trap 'ray down "$cluster" --yes' EXIT
ray up "$cluster" --yes
ray exec "$cluster" 'cd ~/samplecnn && PYTHONPATH=. python scripts/nightly.py --cluster ~/ray_bootstrap_config.yaml'
