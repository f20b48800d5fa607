"""A week of nights on the launched cluster, in a bucket of the storage server, as JSON. Runs in a world."""

import json
import os
import sys
import threading
import time
from pathlib import Path

from samplecnn.contract import LATEST_CSV
from samplecnn.store import open_store
from samplecnn.tables import read_csv
from tests.cluster.launching import WHY, patched, ray
from tests.cluster.world import GATEWAY, HOME, SHARED, Google, enter
from tests.fixtures.gcs import running_gate
from tests.fixtures.jobs import write_recordings
from tests.fixtures.models import publish

PLACE = "gs://my-bucket"  # cluster.yaml's
NIGHTLY = "cd ~/samplecnn && PYTHONPATH=. timeout 280 python scripts/nightly.py --cluster ~/ray_bootstrap_config.yaml"


def upload(first: int, count: int) -> None:
    folder = HOME / f"uploads-{first}"
    write_recordings(folder, count, first)
    store = open_store(f"{PLACE}/recordings")
    for path in folder.iterdir():
        store.put(path.name, path.read_bytes())


def night(file: Path, date: str, flags: str) -> dict:
    """Start a night on the head; what its record says then."""
    told = ray("exec", str(file), f"{NIGHTLY} --night {date} {flags}")
    try:
        record = json.loads(open_store(PLACE).read(f"nights/{date}.json").data)
    except FileNotFoundError:
        record = {}
    return {**told, "record": record}


def at_once(file: Path, date: str, flags: str) -> list[dict]:
    """Two starts of one night."""
    told: list[dict] = []
    starts = [threading.Thread(target=lambda: told.append(night(file, date, flags))) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    return told


def week(google: Google, file: Path) -> dict:
    on_cpus = "--gpus 0 --cpus 1 --minutes 4"
    upload(0, 3)
    found: dict = {"overlapping": at_once(file, "2026-11-01", on_cpus)}
    found["nothing new"] = night(file, "2026-11-02", "--gpus 99 --minutes 60")
    google.no_gpus = True
    upload(3, 1)
    found["no GPUs"] = night(file, "2026-11-03", "--gpus 1 --cpus 1 --minutes 4")
    upload(4, 1)
    found["failed"] = night(file, "2026-11-04", "--gpus 0 --cpus 99 --minutes 0.05")
    found["again"] = night(file, "2026-11-04", on_cpus)
    return found


def untold(google: Google, file: Path) -> dict[str, dict]:
    """What is asked without the token: of the job server on the head itself, of the cluster's store from outside."""
    (head,) = (one for one in google.instances.values() if one["labels"]["ray-node-type"] == "head")
    address = head["networkInterfaces"][0]["networkIP"]
    return {
        "jobs": ray("exec", str(file), "RAY_AUTH_MODE=disabled ray job list --address http://127.0.0.1:8265"),
        "store": ray("status", "--address", f"{address}:6379", limit=60),
    }


def main() -> None:
    google = enter()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.monotonic()
    with running_gate(host=GATEWAY) as gate:
        gate.make_bucket(PLACE.removeprefix("gs://"))
        os.environ["STORAGE_EMULATOR_HOST"] = gate.address
        with (SHARED / "bashrc").open("a", encoding="utf-8") as shell:  # of every machine
            shell.write(f"export STORAGE_EMULATOR_HOST={gate.address}\n")
        publish(f"{PLACE}/model")
        file = patched(cores=1, workers=1)
        found: dict = {"up": ray("up", "-y", "--no-config-cache", str(file))}
        found["after_up"] = sorted(google.instances)
        if found["up"]["code"] == 0:
            found["nights"] = week(google, file)
            found["types"] = sorted(instance["labels"]["ray-user-node-type"] for instance in google.instances.values())
            found["untold"] = untold(google, file)
            found["why"] = ray("exec", str(file), WHY)["out"]
            latest = read_csv(open_store(f"{PLACE}/grades").read(LATEST_CSV).data, LATEST_CSV)
            found["graded"] = sorted(row["recording"] for row in latest)
        found["down"] = ray("down", "-y", str(file))
    found |= {"after_down": sorted(google.instances), "refused": google.refused, "machines": len(google.processes)}
    found["s"] = round(time.monotonic() - began, 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
