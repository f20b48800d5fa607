"""Grade recordings with a trained model; each recording's current version exactly once.

examples:
  python jobs/grade.py --recordings uploads --model model --grades grades
  python jobs/grade.py --recordings gs://school/uploads --model gs://school/model --grades gs://school/grades --new-only
  python jobs/grade.py --recordings take.mp3 --model model
  python jobs/grade.py --recordings round --model model --grades grades --pieces pieces.csv

The same command again is always safe: what this model has graded is kept. What it does not guess at (gradable is
false in latest.csv, with the reason) is for a person to hear. Without --grades the grades are printed and nothing is
written; --recordings may then name files too. With --pieces (columns recording,piece) a recording is judged beside the
labelled recordings of the piece that it plays, where the model learnt from some.
"""

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.report.settings import NO_REPORT, Sources


def main() -> int:
    flags = (
        Flags(__doc__)
        .places("recordings", "model", optional=("grades", "pieces"), repeated=("recordings",))
        .switch("new_only", "grade what has no grade yet, keep the grades of other models (the nightly run)")
        .switch("regrade", "grade again what another model has graded")
        .switch("no_report", NO_REPORT)
        .common("workers", "strict")
    )
    args = flags.parse()
    if args.grades is None:
        if args.new_only or args.regrade or args.workers:
            raise UserError("--new-only, --regrade and --workers: want --grades with them")
        from samplecnn.pipelines.grade_few import grade_few

        outcome = grade_few(args.recordings, args.model, lambda line: print(line, flush=True), args.pieces)
        print()
    else:
        if len(args.recordings) > 1:
            raise UserError("--recordings: give one folder where --grades is given")
        from samplecnn.pipelines.grade import grade  # after parsing: --help need not wait for Ray

        outcome = grade(
            args.recordings[0],
            args.model,
            args.grades,
            new_only=args.new_only,
            regrade=args.regrade,
            pieces=args.pieces,
            workers=args.workers,
        )
    print(outcome)
    if args.grades is not None and not args.no_report:  # always: a run that was killed may have left an older page
        from samplecnn.report.write import report_after

        print(report_after(Sources(grades=args.grades, model=args.model), outcome.done + outcome.kept))
    return outcome.exit_code(strict=args.strict)


if __name__ == "__main__":
    raise SystemExit(run(main))
