"""Cut recordings into segments (Parquet shards).

examples:
  python jobs/prepare.py --recordings uploads --segments segments
  python jobs/prepare.py --recordings gs://school/uploads --segments gs://school/segments --sample-rate 2000

The same command again does only what is missing or has changed.
"""

from samplecnn.flags import Flags, run
from samplecnn.segments import SegmentSettings


def main() -> int:
    flags = Flags(__doc__).places("recordings", "segments").settings(SegmentSettings).common("workers", "strict")
    args = flags.parse()
    from samplecnn.pipelines.prepare import prepare  # after parsing: --help need not wait for Ray

    outcome = prepare(args.recordings, args.segments, args.build(SegmentSettings), workers=args.workers)
    print(outcome)
    return outcome.exit_code(strict=args.strict)


if __name__ == "__main__":
    raise SystemExit(run(main))
