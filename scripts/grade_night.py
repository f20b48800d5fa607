"""A night's job: grade what is new, on GPUs where they come in time, else on CPUs. scripts/nightly.py submits it.

examples:
  python scripts/grade_night.py --recordings gs://school/recordings --model gs://school/model --grades gs://school/grades
"""

from samplecnn.flags import Flags, run
from samplecnn.operations.machines import Wanted


def main() -> int:
    args = Flags(__doc__).places("recordings", "model", "grades").settings(Wanted).parse()
    from samplecnn.operations.night_job import grade_night  # after parsing: --help need not wait for torch

    outcome, line = grade_night(args.recordings, args.model, args.grades, args.build(Wanted))
    print(outcome)
    print(line)
    return outcome.exit_code(strict=False)


if __name__ == "__main__":
    raise SystemExit(run(main))
