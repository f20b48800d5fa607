"""Write a page that shows how recordings were graded and how far to trust it: one HTML file that needs no network.

examples:
  python jobs/report.py --grades grades
  python jobs/report.py --grades gs://school/grades --evaluation gs://school/evaluation --segments gs://school/segments
  python jobs/report.py --evaluation evaluation

report.html is written into the grades folder; without --grades into the evaluation's. It holds the names of the
recordings and what was said of them, and no sound. --segments are those that the model learnt from: the last run's
recordings are compared with them. label_next.csv, beside it, lists the recordings most worth a person's grade.
"""

from samplecnn.flags import Flags, run


def main() -> int:
    flags = Flags(__doc__).places(optional=("grades", "evaluation", "segments"))
    args = flags.switch("png", "write each figure as report-<name>.png too").parse()
    from samplecnn.report.write import write_report  # after parsing: --help need not wait

    print(write_report(args.grades, args.evaluation, args.segments, png=args.png))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
