"""A night's job: grade what is new, on GPUs where they come in time, else on CPUs, and write the report of it.

scripts/nightly.py submits it.

examples:
  python scripts/grade_night.py --recordings gs://school/recordings --model gs://school/model --grades gs://school/grades
"""

from samplecnn.flags import Flags, run
from samplecnn.operations.machines import Wanted
from samplecnn.report.settings import Sources


def main() -> int:
    args = Flags(__doc__).places("recordings", "model", "grades").settings(Wanted).parse()
    from samplecnn.operations.night_job import grade_night  # after parsing: --help need not wait for torch
    from samplecnn.report.write import report_after

    outcome, line = grade_night(args.recordings, args.model, args.grades, args.build(Wanted))
    print(outcome)
    print(line)
    print(report_after(Sources(grades=args.grades, model=args.model), outcome.done + outcome.kept))
    return outcome.exit_code(strict=False)


if __name__ == "__main__":
    raise SystemExit(run(main))
