"""The cluster: choose, check.

examples:
  python scripts/cluster.py configure --project our-school --zone europe-west4-a --bucket gs://our-playing --gpu L4
  python scripts/cluster.py check
  python scripts/cluster.py check docs/cluster-k80.yaml
"""

import sys
from pathlib import Path

from samplecnn.errors import UserError
from samplecnn.flags import Args, Commands, run
from samplecnn.operations.cluster_file import configured, faults, read_cluster, remarks


def main() -> int:
    commands = Commands(__doc__)
    commands.add("check", check, "say what in the file does not fit together, without asking anybody").optional(
        "cluster", "cluster.yaml", "the cluster's file"
    )
    (
        commands.add("configure", configure, "write project, zone, bucket and GPU type wherever the file names them")
        .option("project", "", "id of the Google Cloud project")
        .option("zone", "", "Google's zone; the region is part of it")
        .option("bucket", "", "gs://bucket, or a prefix in it, for recordings, models and grades")
        .option("gpu", "", "K80, T4 or L4")
        .optional("cluster", "cluster.yaml", "the cluster's file")
    )
    return commands.run()


def check(args: Args) -> int:
    cluster = read_cluster(args.cluster)
    for remark in remarks(cluster):
        print(f"note: {remark}", file=sys.stderr)
    if found := faults(cluster):
        raise UserError(f"{args.cluster}: " + "; ".join(found))
    print(f"{args.cluster}: fits together" + (f", GPU {kind}" if (kind := cluster.gpu_kind()) else ""))
    return 0


def configure(args: Args) -> int:
    path = Path(args.cluster)
    read_cluster(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(
        configured(text, project=args.project, zone=args.zone, bucket=args.bucket, gpu=args.gpu), encoding="utf-8"
    )
    return check(args)


if __name__ == "__main__":
    raise SystemExit(run(main))
