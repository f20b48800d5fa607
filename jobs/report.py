"""Write a page that shows how recordings were graded and how far to trust it: one HTML file that needs no network.

examples:
  python jobs/report.py --grades grades
  python jobs/report.py --grades gs://school/grades --evaluation gs://school/evaluation --segments gs://school/segments
  python jobs/report.py --grades grades --audio link
  python jobs/report.py --evaluation evaluation --model model --filters filters

report.html is written into the grades folder; without --grades into the evaluation's. It holds the names of the
recordings and what was said of them, and no sound unless --audio says so. --segments are those that the model learnt
from: the last run's recordings are compared with them. label_next.csv, beside it, lists the recordings most worth a
person's grade. --model adds the learning curve, --filters the picture that scripts/show_filters.py made.
"""

from samplecnn.flags import Flags, run
from samplecnn.report.settings import ReportSettings, Sources


def main() -> int:
    flags = Flags(__doc__).places(optional=("grades", "evaluation", "segments", "model", "filters"))
    args = flags.settings(ReportSettings).parse()
    from samplecnn.report.write import write_report  # after parsing: --help need not wait

    places = Sources(
        grades=args.grades, evaluation=args.evaluation, segments=args.segments, model=args.model, filters=args.filters
    )
    print(write_report(places, args.build(ReportSettings)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
