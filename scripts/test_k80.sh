#!/usr/bin/env bash
# Build the environment of K80 nodes at .venv-k80 (some minutes, 6 GB: its torch comes with CUDA) and run in it, on the
# CPU, the tests of everything that touches torch: network, training, grading. Not part of "make test"; once a release.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv-k80/bin/python
[ -x $python ] || "${PYTHON:-python3.11}" -m venv .venv-k80
echo "k80: installing the pinned requirements"
tools=$(sed '/^[-#]/d' requirements-dev.txt)
# shellcheck disable=SC2086  # one word a tool
$python -m pip install --quiet --disable-pip-version-check -r requirements-k80.txt $tools
$python -c 'import numpy, pyarrow, ray, torch; print(
  "k80: torch", torch.__version__, "for", *torch.cuda.get_arch_list(), "numpy", numpy.__version__,
  "pyarrow", pyarrow.__version__, "ray", ray.__version__)'
# The checkout itself goes on the environment's path, for jobs and Ray's workers.
$python -c 'import os, site; open(site.getsitepackages()[0] + "/samplecnn.pth", "w").write(os.getcwd())'
exec $python -m pytest -W default tests/test_{network,ordinal,batchnorm,fit,recipe,augment,torch_audio,infer,merge}.py \
  tests/test_{rhythm,tempo,course,merging,starter,pretraining}.py \
  tests/test_{model_folder,calibration,cross_validation,filters,export,batches}.py tests/baselines \
  tests/jobs/test_{train,evaluate,grade}.py "$@"
