"""Upload the demo's recordings and labels to a place, as people upload theirs; what lies there already stays as it is.

examples:
  python scripts/upload_demo.py gs://school/demo
"""

import hashlib

from samplecnn.flags import Flags, run
from samplecnn.store import open_store

UPLOADS = ("labels.csv", "new/", "recordings/")  # of the folder demo/


def main() -> int:
    args = Flags(__doc__).argument("place", "gs://bucket/prefix, or a folder").parse()
    source, target = open_store("demo"), open_store(args.place)
    there = {entry.name: entry.md5 for part in UPLOADS for entry in target.list(part)}
    uploaded = 0
    for entry in (entry for part in UPLOADS for entry in source.list(part)):
        data = source.read(entry.name).data
        if there.get(entry.name) != hashlib.md5(data, usedforsecurity=False).hexdigest():  # else a new version of it
            target.put(entry.name, data)
            uploaded += 1
    print(f"{uploaded} files uploaded to {args.place}, {len(there)} were there")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
