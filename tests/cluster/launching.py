"""cluster.yaml as a world can have it, and Ray's commands."""

import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from tests.cluster.world import HOME
from tests.fixtures.jobs import ROOT

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


def patched(cores: int = 8, workers: int = 4) -> Path:
    """cluster.yaml, fitted, and without the proxy for ssh. cores: of a CPU worker; workers: how many at most."""
    config = fitted(ROOT / "cluster.yaml")
    for key in ("ssh_proxy_use_node_id", "ssh_proxy_command"):
        del config["auth"][key]
    config["available_node_types"]["cpu"] |= {"resources": {"CPU": cores}, "max_workers": workers}
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
