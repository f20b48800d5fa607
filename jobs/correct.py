"""Overrule grades: a person says which grade a recording has, and why.

examples:
  python jobs/correct.py --grades grades --corrections corrections.csv
  python jobs/correct.py --grades gs://school/grades --corrections gs://school/corrections.csv --export labels.csv

The CSV file has the columns recording, grade, by and why, and perhaps version, as latest.csv has it: a correction is of
the upload that was heard. Instead of a grade a row may give a mark: --cuts says, as in train, which grade follows. A
correction stands whatever model grades that upload later. Nothing is written over: the last one of a recording counts,
and all stay in the log.
"""

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.labels import MarkSettings


def main() -> int:
    args = Flags(__doc__).places("grades", optional=("corrections", "export")).settings(MarkSettings).parse()
    if not (args.corrections or args.export):
        raise UserError("--corrections or --export is needed (see --help)")
    from samplecnn.corrections import correct  # after parsing: --help need not wait for Arrow

    print(correct(args.grades, args.corrections, args.export, args.build(MarkSettings)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
