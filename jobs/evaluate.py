"""Say how good a model is on recordings that it has not heard: cross-validation beside the baselines.

examples:
  python jobs/evaluate.py --segments segments --labels labels.csv --evaluation evaluation
  python jobs/evaluate.py --segments segments --labels labels.csv --evaluation evaluation --group piece --folds 8
  python jobs/evaluate.py --segments at-500 --segments at-2000 --labels labels.csv --evaluation sweep
  python jobs/evaluate.py --segments segments --labels labels.csv --evaluation both --group performer,piece --folds 3

Splits never part a recording, nor a performer (or what --group names; of several columns, nothing that is predicted
shares any with what was learnt from). --segments may be given several times: a sweep over sample rates.
"""

from samplecnn.architecture import NetworkSettings
from samplecnn.evaluation import EvaluationSettings
from samplecnn.flags import Flags, run
from samplecnn.labels import LabelSettings
from samplecnn.recipe import FitSettings, ways_of
from samplecnn.report.settings import NO_REPORT, Sources


def main() -> int:
    flags = Flags(__doc__).places("segments", "labels", "evaluation", repeated=("segments",))
    args = (
        flags.settings(LabelSettings, EvaluationSettings, NetworkSettings, FitSettings)
        .switch("no_report", NO_REPORT)
        .common("workers", "seed")
        .parse()
    )
    from samplecnn.pipelines.evaluate import evaluate  # after parsing: --help need not wait for Ray

    asked, otherwise = ways_of(args)
    print(
        evaluate(
            args.segments,
            args.labels,
            args.evaluation,
            args.build(LabelSettings),
            args.build(EvaluationSettings),
            *asked,
            otherwise=otherwise,
            seed=args.seed,
            workers=args.workers,
        )
    )
    if not args.no_report:
        from samplecnn.report.write import report_after

        print(report_after(Sources(evaluation=args.evaluation)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
