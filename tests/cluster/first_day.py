"""`ray up` of our cluster.yaml, a worker from none, `ray down`: what happened, as JSON. Runs in a world."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.cluster.world import HOME, enter
from tests.fixtures.jobs import ROOT

TASK = "import ray, socket; ray.init(); print(ray.get(ray.remote(num_cpus=1)(lambda: socket.gethostname()).remote()))"
WHY = "ray status; tail -n 40 /tmp/ray/session_latest/logs/monitor.*"


def fitted(file: Path) -> dict:
    """A cluster's file without what a namespace lacks: packages, their installation, drivers."""
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["setup_commands"] = [
        line
        for line in config["setup_commands"]
        if not any(lacking in line for lacking in ("apt-get", "pip", "nvidia-smi", "torch"))
    ]
    config["head_setup_commands"] = []
    config["file_mounts"] = {
        there: here if here.startswith("~") else str(ROOT / here) for there, here in config["file_mounts"].items()
    }
    return config


def patched(cores: int = 8) -> Path:
    """cluster.yaml, fitted, and without the proxy for ssh. cores: of a CPU worker."""
    config = fitted(ROOT / "cluster.yaml")
    for key in ("ssh_proxy_use_node_id", "ssh_proxy_command"):
        del config["auth"][key]
    config["available_node_types"]["cpu"]["resources"] = {"CPU": cores}
    for node_type in config["available_node_types"].values():
        if "worker_setup_commands" in node_type:
            node_type["worker_setup_commands"] = config["setup_commands"]
    (HOME / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return HOME / "cluster.yaml"


def ray(*args: str, limit: float = 300) -> dict:
    """Its code (124: still running after `limit` seconds, and killed), what it said, seconds."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", dir=HOME) as said:
        try:
            code = subprocess.run(["ray", *args], stdout=said, stderr=subprocess.STDOUT, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = 124
        said.seek(0)
        return {"code": code, "out": said.read()[-8000:], "s": round(time.monotonic() - began, 1)}


def main() -> None:
    google = enter()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    file = str(patched())
    found: dict = {"up": ray("up", "-y", "--no-config-cache", file), "after_up": sorted(google.instances)}
    if found["up"]["code"] == 0:
        found["task"] = ray("exec", file, f"timeout 240 python -c {shlex.quote(TASK)}")
        found["after_task"] = sorted(google.instances)
        found["types"] = sorted(instance["labels"]["ray-user-node-type"] for instance in google.instances.values())
        if found["task"]["code"]:
            found["why"] = ray("exec", file, WHY)
            found["why"]["calls"] = google.calls
        found["untold"] = ray("exec", file, "RAY_AUTH_MODE=disabled ray job list --address http://127.0.0.1:8265")
    found["down"] = ray("down", "-y", file)
    found |= {"after_down": sorted(google.instances), "refused": google.refused, "machines": len(google.processes)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
