"""Wait for Google's notice that this spot machine goes, and take its node out of the cluster before it does.

examples:
  python scripts/drain_on_notice.py 10.128.0.2:6379

cluster.yaml starts it on every worker. On machines of one's own it ends by itself.
"""

from samplecnn.flags import Flags, run


def main() -> int:
    flags = Flags(__doc__).argument("address", "host:port of the cluster's head")
    args = flags.option("metadata", "http://metadata.google.internal", "Google's metadata server").parse()
    from samplecnn.operations.preemption import drain, wait_for_notice  # after parsing: --help need not wait for Ray

    if wait_for_notice(args.metadata):
        drain(args.address)
        print("drained: this machine goes")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
