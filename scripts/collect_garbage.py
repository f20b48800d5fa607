"""Say which files of a grades folder no manifest names and nobody needs, and remove them if told to.

examples:
  python scripts/collect_garbage.py --grades grades
  python scripts/collect_garbage.py --grades gs://school/grades --safe-days 30 --delete

Killed runs, and runs that came second, leave parts that count for nothing. Without --delete nothing is removed.
"""

import time

from samplecnn.flags import Flags, run
from samplecnn.garbage import GarbageSettings, delete, find_garbage, require_same_clock
from samplecnn.store import open_store


def main() -> int:
    flags = Flags(__doc__).places("grades").settings(GarbageSettings)
    args = flags.switch("delete", "remove the files, instead of only naming them").parse()
    store = open_store(args.grades)
    garbage = find_garbage(store, time.time(), args.build(GarbageSettings).safe_days)
    if args.delete:  # asked now, by writing a file: a place without grades is refused by then
        require_same_clock(store, time.time())
    for entry in garbage:
        print(f"{entry.size_bytes:>12,}  {store.url(entry.name)}")
    size = sum(entry.size_bytes for entry in garbage)
    if args.delete:
        print(f"{delete(store, garbage)} files removed, {size:,} bytes")
    else:
        print(f"{len(garbage)} files would go, {size:,} bytes: --delete removes them")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
