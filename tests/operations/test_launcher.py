"""cluster.yaml through Ray's own launcher, against Compute Engine's own schema; nothing leaves this machine."""

import copy
import json
import re

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from samplecnn.operations.cluster_file import GPU_KINDS, KEYS, configured
from tests.fixtures.compute import launched, schema_faults
from tests.fixtures.jobs import ROOT

TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", GPU_KINDS)
def test_every_machine_is_one_that_compute_engine_knows(kind, monkeypatch, tmp_path):
    config = yaml.safe_load(configured(TEXT, project="our-school", zone="europe-west4-b", gpu=kind))
    bodies = launched(config, monkeypatch, tmp_path)
    assert list(bodies) == ["head", "cpu", "t4", "l4", "k80", "gpu"]
    for name, body in bodies.items():
        assert schema_faults(body) == [], name
        assert len(body["name"]) <= 63
        assert all(re.fullmatch(r"[a-z0-9_-]{0,63}", value) for value in body["labels"].values()), body["labels"]
        assert body["machineType"].startswith("zones/europe-west4-b/machineTypes/")
        assert "accessConfigs" not in body["networkInterfaces"][0]
        role = "head" if name == "head" else "worker"
        emails = [account["email"] for account in body["serviceAccounts"]]
        assert emails == [f"samplecnn-{role}@our-school.iam.gserviceaccount.com"]
    types = [accelerator["acceleratorType"] for accelerator in bodies["gpu"].get("guestAccelerators", [])]
    zone = "projects/our-school/zones/europe-west4-b/acceleratorTypes"
    assert types == {"K80": [f"{zone}/nvidia-tesla-k80"], "T4": [f"{zone}/nvidia-tesla-t4"], "L4": []}[kind]


def test_a_machine_with_a_mistake_is_told_from_one_without(monkeypatch, tmp_path):
    config = yaml.safe_load(TEXT)
    mistakes = {
        "count": lambda node: node.update(guestAccelerators=[{"acceleratorType": "nvidia-tesla-t4", "count": 1}]),
        "diskSizeGB": lambda node: node["disks"][0]["initializeParams"].update(diskSizeGB=100),
        "scheduling": lambda node: node.update(scheduling=[{"preemptible": True}]),
        "50GB": lambda node: node["disks"][0]["initializeParams"].update(diskSizeGb="50GB"),
        "tags": lambda node: node.update(tags=["samplecnn"]),
        "USED": lambda node: node["scheduling"].update(provisioningModel="USED"),
    }  # fmt: skip
    for word, make in mistakes.items():
        wrong = json.loads(json.dumps(config))  # aliases are one object
        make(wrong["available_node_types"]["gpu"]["node_config"])
        body = launched(wrong, monkeypatch, tmp_path)["gpu"]
        assert any(word in fault for fault in schema_faults(body)), word


@pytest.mark.parametrize("path", ["cluster.yaml", "docs/cluster-k80.yaml"])
def test_rays_own_schema_accepts_it(path):
    config = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_would_fill_in_no_key_but_those_that_we_set():
    import ray.autoscaler as autoscaler

    defaults = yaml.safe_load((ROOT / autoscaler.__path__[0] / "gcp" / "defaults.yaml").read_text(encoding="utf-8"))
    assert set(defaults) == KEYS


def test_the_node_types_that_jobs_ask_for_offer_the_same_resources():
    types = yaml.safe_load(TEXT)["available_node_types"]
    assert {str(types[kind.lower()]["resources"]) for kind in GPU_KINDS} == {str(types["gpu"]["resources"])}
