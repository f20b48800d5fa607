"""Print the grades of a grades folder as a table.

examples:
  python scripts/show_grades.py --grades demo/grades
"""

import io

import pyarrow.parquet as pq

from samplecnn.contract import (
    CONFIDENCE,
    DURATION_S,
    GRADABLE,
    GRADE,
    LATEST_PARQUET,
    REASON,
    RECORDING,
    SCORE,
    WARNING,
)
from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.store import open_store


def main() -> int:
    args = Flags(__doc__).places("grades").parse()
    try:
        latest = open_store(args.grades).read(LATEST_PARQUET)
    except FileNotFoundError:
        raise UserError(f"--grades {args.grades}: no grades there: run jobs/grade.py first") from None
    rows = pq.read_table(io.BytesIO(latest.data)).to_pylist()
    width = max([len(RECORDING), *(len(row[RECORDING]) for row in rows)])
    print(f"{'grade':7}{'score':>6}{'confidence':>12}{'minutes':>9}  {RECORDING:{width}}  remark")
    for row in sorted(rows, key=lambda row: (row[SCORE] is None, -(row[SCORE] or 0.0))):
        figures = f"{row[GRADE]:7}{row[SCORE]:6.2f}{row[CONFIDENCE]:12.2f}" if row[GRADABLE] else f"{'-':7}{'':18}"
        remark = "; ".join(text for text in (row[REASON], row[WARNING]) if text)
        print(f"{figures}{row[DURATION_S] / 60:9.1f}  {row[RECORDING]:{width}}  {remark}".rstrip())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
