"""Teach a network on generated performances, so that training starts from what it learnt: a starter.

examples:
  python jobs/pretrain.py --performances build/performances --starter build/starter
  python jobs/pretrain.py --performances gs://school/performances --starter gs://school/starter --sample-rate 2000

Nobody's recordings are needed: a generator performs, and tells of each performance how far its onsets are off, which
notes are wrong, how its tempo moves. `train --init PLACE` starts from the result. docs/ear.md says how those
that ship were made.
"""

from samplecnn.flags import Flags, run
from samplecnn.recipe import PretrainSettings
from samplecnn.segments import SegmentSettings


def main() -> int:
    flags = Flags(__doc__).places("performances", "starter").settings(SegmentSettings, PretrainSettings)
    args = flags.common("workers", "seed").parse()
    from samplecnn.pipelines.pretrain import pretrain  # after parsing: --help need not wait for Ray

    print(
        pretrain(
            args.performances,
            args.starter,
            args.build(SegmentSettings),
            args.build(PretrainSettings),
            seed=args.seed,
            workers=args.workers,
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
