"""Make a starter from your own recordings, without labels: it learns which of two copies has the worse pulse.

examples:
  python jobs/pretrain_unlabelled.py --segments segments --starter starter
  python jobs/pretrain_unlabelled.py --segments gs://school/segments --starter gs://school/starter --workers 4
  python jobs/train.py --segments segments --labels labels.csv --model model --init starter

for playing that the starter which ships does not hear (train says so):
  python jobs/pretrain_unlabelled.py --segments segments --starter starter --network rhythms
  python jobs/train.py --segments segments --labels labels.csv --model model --init starter \\
    --recipe from-nothing --network rhythms

Any recordings that jobs/prepare.py has cut will do, such as all uploads of a year. Where a starter ships (500 and 2000
Hz) that one tells far more, if it hears what your labels say; so does one that jobs/pretrain.py makes (docs/ear.md).
The same command again goes on from the last checkpoint, and does nothing where it is done.
"""

from samplecnn.flags import Flags, run
from samplecnn.recipe import UnlabelledSettings


def main() -> int:
    args = Flags(__doc__).places("segments", "starter").settings(UnlabelledSettings).common("workers", "seed").parse()
    from samplecnn.pipelines.pretrain_unlabelled import pretrain_unlabelled  # after parsing: --help need not wait

    settings = args.build(UnlabelledSettings)
    print(pretrain_unlabelled(args.segments, args.starter, settings, seed=args.seed, workers=args.workers))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
