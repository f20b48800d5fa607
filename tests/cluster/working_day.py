"""prepare, train and grade as jobs on two workers, of which one goes in the middle of each: what happened, as JSON.

Runs in a world. What they share is a folder; all is done once more, undisturbed, on this machine alone.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from samplecnn.contract import GRADED_AT, LATEST_PARQUET, MODEL_ID, RECORDING, SEGMENT, WEIGHTS_FILE
from tests.cluster.launching import patched, ray
from tests.cluster.world import HOME, SHARED, Google, enter
from tests.fixtures.audio import write_audio
from tests.fixtures.jobs import GRADES, RATE, ROOT, played, write_labels

SCHOOL = SHARED / "school"  # every machine mounts it
LOCAL = """
import ray, runpy, sys
sys.argv = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LIMIT_S = 420.0
DECODER, TRAINER = "samplecnn.audio.child", "RayTrainWorker"
BUSY_S = 0.7  # processor time after which a process has started and is at work
GOING = (("prepare", "killed"), ("train", "killed"), ("grade", "given notice"), ("again", "cut off"))
COUNT, SECONDS = 36, 360.0


def record() -> None:
    rows = []
    (SCHOOL / "recordings").mkdir(parents=True)
    for number in range(COUNT):
        name = f"take {number:02d}.{('wav', 'flac', 'mp3')[number % 3]}"
        write_audio(SCHOOL / "recordings" / name, played(number, number // 3 % 3, seconds=SECONDS), RATE)
        rows.append((name, GRADES[number // 3 % 3]))
    write_labels(SCHOOL / "labels.csv", rows)


def words(job: str, folder: Path) -> list[str]:
    """A job's flags; folder: where segments, model and grades of a run lie."""
    recordings, segments, model = f"{SCHOOL}/recordings", f"{folder}/segments", f"{folder}/model"
    return {
        "prepare": ["--recordings", recordings, "--segments", segments],
        "train": ["--segments", segments, "--labels", f"{SCHOOL}/labels.csv", "--model", model, "--epochs", "3"],
        "grade": ["--recordings", recordings, "--model", model, "--grades", f"{folder}/grades"],
        "again": ["--recordings", recordings, "--model", model, "--grades", f"{folder}/again"],
    }[job] + ["--workers", "2", *([] if job == "prepare" else ["--no-report"])]


def undisturbed(found: dict) -> None:
    for job in ("prepare", "train", "grade"):
        command = [sys.executable, "-c", LOCAL, f"jobs/{job}.py", *words(job, SCHOOL / "alone")]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        found[job] = {"code": done.returncode, "out": done.stderr[-3000:], "s": round(time.monotonic() - began, 1)}


def wait_for(moment: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> str:
    """ "" once it is true, else what did not come: the job ended, or time did."""
    deadline = time.monotonic() + LIMIT_S
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            return f"never came: {what}"
        time.sleep(0.1)
    return ""


def disturbed(google: Google, file: Path, job: str, how: str) -> dict:
    """Submit a job, and have one of its workers go in its middle."""
    script, began = job.replace("again", "grade"), time.monotonic()
    command = [sys.executable, "scripts/cluster.py", "submit", script, "--cluster", str(file), "--gpus", "0"]
    command += ["--cpus", "2", "--minutes", "5", "--", *words(job, SCHOOL / "cluster")]
    with (HOME / f"{job}.log").open("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)

        def workers() -> list[str]:
            return sorted(name for name in list(google.instances) if "-worker-" in name)

        def at_work() -> list[str]:
            what = TRAINER if job == "train" else DECODER
            return [name for name in workers() if google.cpu_s(name, what) >= BUSY_S]

        def middle() -> bool:
            if job == "train" and not any((SCHOOL / "cluster" / "model.checkpoints").rglob("checkpoint_*/*")):
                return False
            # On a busy machine one worker may have done all before the other has started.
            return len(at_work()) >= (2 if job == "train" else 1)

        missed = wait_for(middle, process, "the middle")
        at_s, gone, drained = time.monotonic() - began, "", ""
        if not missed:
            gone = at_work()[0]
            if how == "killed":
                google.halt(gone)
            elif how == "cut off":
                google.cut(gone)
            else:
                google.give_notice(gone)
                time.sleep(28)
                drained = google.read(gone, "/home/ubuntu/drain.log")
                google.halt(gone)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = 124
        said.seek(0)
        told = {"code": code, "out": said.read()[-6000:], "missed": missed, "gone": gone, "how": how}
    return told | {"drained": drained, "middle_s": round(at_s, 1), "s": round(time.monotonic() - began, 1)}


def untold() -> dict[str, int]:
    """How the job server answers who has no token, once `ray dashboard` leads there."""
    answers, deadline = {}, time.monotonic() + LIMIT_S
    while subprocess.run(["bash", "-c", ": < /dev/tcp/127.0.0.1/8265"], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, (HOME / "dashboard.log").read_text()
        time.sleep(0.2)
    for verb, path in (("GET", "/api/version"), ("GET", "/api/jobs/"), ("POST", "/api/jobs/"), ("GET", "/nodes")):
        body = json.dumps({"entrypoint": "true"}).encode() if verb == "POST" else None
        request = urllib.request.Request(f"http://127.0.0.1:8265{path}", body, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answers[f"{verb} {path}"] = answer.status
        except urllib.error.HTTPError as error:
            answers[f"{verb} {path}"] = error.code
    return answers


def differences(alone: Path, cluster: Path) -> list[str]:
    """In what the disturbed runs' segments, weights and grades are not, bit for bit, those of the undisturbed one."""

    def segments(folder: Path) -> pa.Table:
        return (
            ds.dataset(folder / "segments" / "data")
            .to_table()
            .sort_by([(RECORDING, "ascending"), (SEGMENT, "ascending")])
        )

    def weights(folder: Path) -> bytes:
        (file,) = (folder / "model").glob(f"*/{WEIGHTS_FILE}")
        return file.read_bytes()

    def grades(folder: Path) -> pa.Table:  # a model's name holds when it was made
        return pq.read_table(folder / LATEST_PARQUET).drop_columns([MODEL_ID, GRADED_AT])

    same = {
        "segments": segments(alone).equals(segments(cluster)),
        "weights": weights(alone) == weights(cluster),
        "grades": grades(alone / "grades").equals(grades(cluster / "grades")),
        "grades once more": grades(alone / "grades").equals(grades(cluster / "again")),
    }
    return [what for what, is_same in same.items() if not is_same]


def main() -> None:
    google = enter()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    began = time.monotonic()
    record()
    found: dict = {"alone": {}, "recorded_s": round(time.monotonic() - began, 1), "jobs": {}}
    alone = threading.Thread(target=undisturbed, args=(found["alone"],))
    alone.start()
    file = patched(cores=1)
    found["up"] = ray("up", "-y", "--no-config-cache", str(file))
    if found["up"]["code"] == 0:
        with (HOME / "dashboard.log").open("wb") as said:
            dashboard = subprocess.Popen(["ray", "dashboard", str(file)], stdin=subprocess.DEVNULL, stdout=said,
                                         stderr=subprocess.STDOUT)  # fmt: skip
        found["untold"] = untold()
        for job, how in GOING:
            found["jobs"][job] = told = disturbed(google, file, job, how)
            print(job, {**told, "out": told["out"][-1500:]}, file=sys.stderr, flush=True)
            if told["code"]:
                told["why"] = ray("exec", str(file), "ray status; tail -n 60 /tmp/ray/session_latest/logs/monitor.*")
                break
        dashboard.kill()
    alone.join()
    found["down"] = ray("down", "-y", str(file))
    found |= {"after_down": sorted(google.instances), "refused": google.refused, "machines": len(google.processes)}
    found["s"] = round(time.monotonic() - began, 1)
    if len(found["jobs"]) == len(GOING) and not any(told["code"] for told in found["jobs"].values()):
        found["differences"] = differences(SCHOOL / "alone", SCHOOL / "cluster")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
