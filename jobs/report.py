"""Write a page that shows how recordings were graded and how far to trust it: one HTML file that needs no network.

examples:
  python jobs/report.py --grades grades
  python jobs/report.py --grades gs://school/grades --evaluation gs://school/evaluation
  python jobs/report.py --evaluation evaluation

report.html is written into the grades folder; without --grades into the evaluation's. It holds the names of the
recordings and what was said of them, and no sound.
"""

from samplecnn.flags import Flags, run


def main() -> int:
    flags = Flags(__doc__).places(optional=("grades", "evaluation"))
    args = flags.switch("png", "write each figure as report-<name>.png too").parse()
    from samplecnn.report.write import write_report  # after parsing: --help need not wait

    print(write_report(args.grades, args.evaluation, png=args.png))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
