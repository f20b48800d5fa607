"""The demo in a bucket: the same jobs against a server that speaks Google Cloud Storage's protocol, the same grades.

examples:
  python scripts/demo_gcs.py

The server (tests/fixtures/gate.py) runs on this machine and goes when the demo ends, and the bucket with it. The grades
are compared with those of the demo in the folder demo/, which is run first if it has not been. Left out of the
comparison are version (a hash of the file there, a generation here), graded_at and corrected_at.
"""

import os
import subprocess

import pyarrow as pa

from samplecnn.contract import CORRECTED_AT, GRADED_AT, LATEST_PARQUET, RECORDING, VERSION
from samplecnn.errors import JobError
from samplecnn.flags import Flags, run
from samplecnn.store import open_store
from samplecnn.tables import read_parquet
from tests.fixtures.gcs import running_gate

BUCKET = "samplecnn-demo"
PLACE = f"gs://{BUCKET}/demo"


def main() -> int:
    Flags(__doc__).parse()
    if not os.path.exists(os.path.join("demo", "grades", LATEST_PARQUET)):
        print("The demo in the folder demo/ has not been run: running it first, to compare with", flush=True)
        demo("demo")
    with running_gate() as gate:
        gate.make_bucket(BUCKET)
        os.environ["STORAGE_EMULATOR_HOST"] = gate.address
        demo(PLACE)
        found = grades(PLACE)
    print(f"\n{PLACE} lay on a test server, which has ended: nothing of it is left")
    compare(grades("demo"), found)
    print(f"identical: the {len(found)} grades of make demo, made by the same model {found['model_id'][0]}")
    return 0


def demo(place: str) -> None:
    """The steps of scripts/demo.sh, which prints what went wrong."""
    if subprocess.run(["scripts/demo.sh", place], check=False).returncode:
        raise JobError(f"the demo in {place} failed: see above")


def grades(place: str) -> pa.Table:
    """What both demos must agree on."""
    latest = open_store(f"{place}/grades").read(LATEST_PARQUET)
    return read_parquet(latest.data).replace_schema_metadata(None).drop_columns([VERSION, GRADED_AT, CORRECTED_AT])


def compare(ours: pa.Table, theirs: pa.Table) -> None:
    """Raises JobError, naming columns and recordings, where the two differ in any bit."""
    if ours.equals(theirs):
        return
    if ours[RECORDING].equals(theirs[RECORDING]) and ours.schema.equals(theirs.schema):
        columns = [name for name in ours.column_names if not ours[name].equals(theirs[name])]
        what = f"{', '.join(columns)} differ"
    else:
        what = f"{len(ours)} and {len(theirs)} grades, of other recordings or with other columns"
    raise JobError(f"not the grades of make demo: {what}; if demo/ was made by other code: make clean, and again")


if __name__ == "__main__":
    raise SystemExit(run(main))
