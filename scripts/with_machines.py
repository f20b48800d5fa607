"""Wait until a cluster that has scaled to zero has machines, then run a job on them.

examples:
  python scripts/with_machines.py --gpus 2 --cpus 0 -- python jobs/train.py --segments gs://school/segments ...

Run on the cluster: scripts/cluster.py submit puts it before the job. Exit code 1, and why, where no machines come.
"""

import os

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.operations.machines import Wanted


def main() -> int:
    args = Flags(__doc__).settings(Wanted).rest().parse()
    if not args.rest:
        raise UserError("no command: write it after --")
    import ray

    from samplecnn.operations.machines import wait_for_machines
    from samplecnn.pipelines.runtime import ray_session

    with ray_session():
        machines = wait_for_machines(args.build(Wanted))
    print(f"{machines.gpu_workers} workers with GPUs and {machines.cpu_workers} without are there", flush=True)
    ray.shutdown()
    os.execvp(args.rest[0], args.rest)


if __name__ == "__main__":
    raise SystemExit(run(main))
