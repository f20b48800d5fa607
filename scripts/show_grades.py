"""Print the grades of a grades folder as a table.

examples:
  python scripts/show_grades.py --grades demo/grades
"""

from samplecnn.contract import LATEST_PARQUET, RECORDING, SCORE
from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.store import open_store
from samplecnn.tables import read_parquet
from samplecnn.terminal import grade_line, heading, width_of


def main() -> int:
    args = Flags(__doc__).places("grades").parse()
    try:
        latest = open_store(args.grades).read(LATEST_PARQUET)
    except FileNotFoundError:
        raise UserError(f"--grades {args.grades}: no grades there: run jobs/grade.py first") from None
    rows = read_parquet(latest.data).to_pylist()
    width = width_of([row[RECORDING] for row in rows])
    print(heading(width))
    for row in sorted(rows, key=lambda row: (row[SCORE] is None, -(row[SCORE] or 0.0))):
        print(grade_line(row, width))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
