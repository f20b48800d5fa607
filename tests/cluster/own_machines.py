"""`ray up` of docs/cluster-k80.yaml on three machines that are there already, a job on each, `ray down`, as JSON.

Runs in a world.
"""

import json
import os
import shlex
import sys
from pathlib import Path

from tests.cluster.launching import fitted, ray
from tests.cluster.world import HOME, enter, sh
from tests.fixtures.jobs import ROOT

# Waits for a task on each of the three, all at once.
TASK = """
import ray, socket, time
from ray.util.placement_group import placement_group
ray.init(log_to_driver=False)
group = placement_group([{"CPU": 1}] * 3, strategy="STRICT_SPREAD")
assert group.wait(180), "not three machines"
name = ray.remote(num_cpus=1)(lambda: socket.gethostname())
tasks = [name.options(placement_group=group, placement_group_bundle_index=number).remote() for number in range(3)]
print("on", *sorted(ray.get(tasks)))
"""


def main() -> None:
    google = enter()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    key = HOME / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700)
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    public = key.with_suffix(".pub").read_text()
    google.metadata["items"] = [{"key": "ssh-keys", "value": f"ubuntu:{public}"}]
    for name in ("own-0", "own-1", "own-2"):
        google.boot({"name": name, "networkInterfaces": [{}], "labels": {}})
    config = fitted(ROOT / "docs" / "cluster-k80.yaml")
    head, *others = (google.instances[name]["networkInterfaces"][0]["networkIP"] for name in sorted(google.instances))
    config["auth"]["ssh_private_key"] = str(key)  # ssh looks for ~ by the user's number, which is ubuntu's
    config["provider"] |= {"head_ip": head, "worker_ips": others}
    file = HOME / "cluster.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    found = {"up": ray("up", "-y", "--no-config-cache", str(file))}
    if found["up"]["code"] == 0:
        found["task"] = ray("exec", str(file), f"timeout 240 python -c {shlex.quote(TASK)}")
        found["untold"] = ray("exec", str(file), "RAY_AUTH_MODE=disabled ray job list --address http://127.0.0.1:8265")
    found["down"] = ray("down", "-y", str(file))
    found["raylets"] = {name: google.cpu_s(name, "raylet/raylet") > 0 for name in sorted(google.instances)}
    found["calls"] = google.calls
    print(json.dumps(found))


if __name__ == "__main__":
    main()
