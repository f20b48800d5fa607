"""Train a model that grades recordings, from segments and labels.

examples:
  python jobs/train.py --segments segments --labels labels.csv --model model
  python jobs/train.py --segments gs://school/segments --labels labels.csv --model gs://school/model --workers 4
  python jobs/train.py --segments segments --labels labels.csv --model model --evaluation evaluation

On GPUs where the cluster has them, else on CPUs. The same command again goes on from the last checkpoint, and does
nothing where that model is trained already. With --evaluation the model is as sure of itself as `evaluate`, run with
the same flags, found it right to be, and gives no grade where it is too little sure.
"""

from samplecnn.architecture import NetworkSettings
from samplecnn.flags import Flags, run
from samplecnn.labels import LabelSettings
from samplecnn.recipe import FitSettings, ways_of
from samplecnn.report.settings import NO_REPORT, Sources


def main() -> int:
    flags = (
        Flags(__doc__)
        .places("segments", "labels", "model", optional=("evaluation",))
        .settings(LabelSettings, NetworkSettings, FitSettings)
        .switch("no_report", NO_REPORT)
    )
    args = flags.common("workers", "seed").parse()
    from samplecnn.pipelines.train import train  # after parsing: --help need not wait for Ray

    asked, otherwise = ways_of(args)
    print(
        train(
            args.segments,
            args.labels,
            args.model,
            args.build(LabelSettings),
            *asked,
            otherwise=otherwise,
            seed=args.seed,
            evaluation=args.evaluation,
            workers=args.workers,
        )
    )
    if not args.no_report:
        from samplecnn.report.write import report_after

        print(report_after(Sources(evaluation=args.evaluation, model=args.model)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
