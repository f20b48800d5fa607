"""Print the grades of a grades folder as a table.

examples:
  python scripts/show_grades.py --grades demo/grades
"""

import pyarrow as pa

from samplecnn.contract import LATEST_PARQUET, RECORDING, SCORE
from samplecnn.errors import UserError, one_line
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
    try:
        rows = read_parquet(latest.data).to_pylist()
        width = width_of([row[RECORDING] for row in rows])
        told = [
            grade_line(row, width) for row in sorted(rows, key=lambda row: (row[SCORE] is None, -(row[SCORE] or 0.0)))
        ]
    except (KeyError, OSError, pa.ArrowException) as error:
        raise UserError(
            f"--grades {args.grades}: {LATEST_PARQUET} is damaged, or nothing that grade writes ({one_line(error)}): "
            "run jobs/grade.py again"
        ) from None
    print("\n".join([heading(width), *told]))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
