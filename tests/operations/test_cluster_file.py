import json
import subprocess
import sys

import pytest
import yaml

from samplecnn.errors import UserError
from samplecnn.operations.cluster_file import GPU_KINDS, Cluster, configured, faults, read_cluster, remarks
from tests.fixtures.jobs import ROOT

PATH = ROOT / "cluster.yaml"
TEXT = PATH.read_text(encoding="utf-8")


def found(change, path=PATH) -> list[str]:
    config = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))  # aliases are one object
    change(config)
    return faults(Cluster(path, config))


@pytest.mark.parametrize("kind", GPU_KINDS)
def test_every_gpu_kind_passes(kind):
    cluster = Cluster(PATH, yaml.safe_load(configured(TEXT, gpu=kind)))
    assert faults(cluster) == []
    assert cluster.gpu_kind() == kind
    assert any("ended the K80 in May 2024" in remark for remark in remarks(cluster)) == (kind == "K80")


def test_own_k80_machines_pass():
    assert faults(read_cluster(ROOT / "docs" / "cluster-k80.yaml")) == []


def gpu(config):
    return config["available_node_types"]["gpu"]


def node(config):
    return gpu(config)["node_config"]


MISTAKES = {
    "cluster_name 'Our_School'": lambda c: c.update(cluster_name="Our_School"),
    "at most 35": lambda c: c.update(cluster_name="a" * 36),
    "docker: is missing": lambda c: c.pop("docker"),
    "provider.availibility_zone": lambda c: c["provider"].update(availibility_zone="us-central1-a"),
    "is not in region us-central1": lambda c: c["provider"].update(availability_zone="us-east1-b"),
    "provider.bucket ''": lambda c: c["provider"].pop("bucket"),
    "says another zone": lambda c: c["auth"].update(
        ssh_proxy_command=c["auth"]["ssh_proxy_command"].replace("us-central1-a", "us-east1-b")
    ),
    "says another project": lambda c: c["provider"].update(project_id="other-project"),
    "ssh needs ssh_proxy": lambda c: c["auth"].pop("ssh_proxy_use_node_id"),
    "gives a public address": lambda c: node(c).update(
        networkInterfaces=[{"network": "global/networks/samplecnn", "accessConfigs": [{"name": "External NAT"}]}]
    ),
    "ssh has no way in": lambda c: c["provider"].update(use_internal_ips=False),
    "cache_stopped_nodes": lambda c: c["provider"].update(cache_stopped_nodes=True),
    "choose one kind": lambda c: node(c).update(machineType="n1-standard-16"),
    "only gpu is started": lambda c: c["available_node_types"]["l4"].update(max_workers=2),
    "go with GPU K80": lambda c: c["file_mounts"].update({"/home/ubuntu/requirements.txt": "requirements-k80.txt"}),
    "head_node_type master": lambda c: c.update(head_node_type="master"),
    "the head computes nothing": lambda c: c["available_node_types"]["head"].update(resources={"CPU": 4}),
    "has another number of cores": lambda c: gpu(c).update(resources={"CPU": 4, "GPU": 1}),
    "resources.GPU 2": lambda c: gpu(c).update(resources={"CPU": 8, "GPU": 2}),
    "go with machines of the n1 family": lambda c: node(c).update(machineType="e2-standard-8"),
    "wants TERMINATE": lambda c: node(c)["scheduling"].update(onHostMaintenance="MIGRATE"),
    "spot wants false": lambda c: node(c)["scheduling"].update(automaticRestart=True),
    "say DELETE": lambda c: node(c)["scheduling"].update(instanceTerminationAction="STOP"),
    "is a mapping, not a list": lambda c: node(c).update(scheduling=[{"preemptible": True}]),
    "nvidia-smi is missing": lambda c: gpu(c)["worker_setup_commands"].remove("nvidia-smi"),
    "replace setup_commands": lambda c: gpu(c).update(worker_setup_commands=["nvidia-smi"]),
    "0 boot disks": lambda c: node(c).pop("disks"),
    "would outlive its machine": lambda c: node(c)["disks"][0].pop("autoDelete"),
    "is no known image family": lambda c: node(c)["disks"][0]["initializeParams"].update(
        sourceImage="projects/deeplearning-platform-release/global/images/family/common-cpu"
    ),
    "diskType (none)": lambda c: node(c)["disks"][0]["initializeParams"].pop("diskType"),
    "g2 machines take": lambda c: c["available_node_types"]["l4"]["node_config"]["disks"][0]["initializeParams"].update(
        diskType="zones/us-central1-a/diskTypes/pd-standard"
    ),
    "networkInterfaces: is missing": lambda c: node(c).pop("networkInterfaces"),
    "could not read the bucket": lambda c: node(c).pop("serviceAccounts"),
    "Big: becomes a label": lambda c: c["available_node_types"].update(Big=c["available_node_types"]["cpu"]),
    "the token is missing": lambda c: c["file_mounts"].pop("/home/ubuntu/.ray/auth_token"),
    "nothing.txt: no such file": lambda c: c["file_mounts"].update({"/home/ubuntu/a": "nothing.txt"}),
    "opens the dashboard": lambda c: c["head_start_ray_commands"].append("ray start --head --dashboard-host=0.0.0.0"),
    "RAY_AUTH_MODE=token is missing": lambda c: c.update(worker_start_ray_commands=["ray stop", "ray start"]),
    "no worker ever comes": lambda c: c.update(head_start_ray_commands=["ray stop", "ray start --head"]),
    "v2 of Ray 2.60 loses workers": lambda c: c.update(head_start_ray_commands=["ray stop", "ray start --head"]),
    "these rules know gcp and local": lambda c: c["provider"].update(type="aws"),
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_named(words):
    assert any(words in fault for fault in found(MISTAKES[words])), words


MISTAKES_AT_HOME = {
    "give head_ip": lambda c: c["provider"].pop("head_ip"),
    "there are 1 worker_ips": lambda c: c["provider"].update(worker_ips=["10.0.0.2"]),
    "ssh_private_key: is missing": lambda c: c["auth"].pop("ssh_private_key"),
    "requirements-k80.txt is missing": lambda c: c["file_mounts"].pop("/home/ubuntu/requirements-k80.txt"),
    "must fail at once": lambda c: c.update(setup_commands=[]),
}


@pytest.mark.parametrize("words", MISTAKES_AT_HOME)
def test_a_mistake_with_own_machines_is_named(words):
    assert any(words in fault for fault in found(MISTAKES_AT_HOME[words], ROOT / "docs" / "cluster-k80.yaml")), words


def test_configured_changes_every_place_and_nothing_else():
    text = configured(TEXT, project="our-school", zone="asia-east1-b", bucket="gs://our-school-playing/piano", gpu="L4")
    cluster = Cluster(PATH, yaml.safe_load(text))
    assert faults(cluster) == []
    assert (cluster.zone, cluster.bucket, cluster.gpu_kind()) == ("asia-east1-b", "gs://our-school-playing/piano", "L4")
    assert cluster.config["provider"]["region"] == "asia-east1"
    assert "my-project" not in text
    assert "us-central1" not in text
    back = configured(text, project="my-project", zone="us-central1-a", bucket="gs://my-bucket", gpu="T4")
    assert back == TEXT
    assert configured(configured(TEXT, gpu="K80"), gpu="T4").replace("  #", " #") == TEXT.replace("  #", " #")


@pytest.mark.parametrize("words", [{"project": "A"}, {"zone": "us-central1"}, {"bucket": "our"}, {"gpu": "H100"}])
def test_a_word_that_cannot_be_one_is_refused(words):
    with pytest.raises(UserError, match=f"--{next(iter(words))}"):
        configured(TEXT, **words)


def test_the_public_alternative_is_spoken_of():
    config = yaml.safe_load(TEXT)
    config["provider"].pop("use_internal_ips")
    config["auth"] = {"ssh_user": "ubuntu"}
    for node_type in config["available_node_types"].values():
        access = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
        node_type["node_config"]["networkInterfaces"] = [
            {"network": "global/networks/samplecnn", "accessConfigs": access}
        ]
    cluster = Cluster(PATH, config)
    assert faults(cluster) == []
    assert any("public addresses" in remark for remark in remarks(cluster))


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "cluster.py"), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_is_no_mapping_is_named(tmp_path):
    path = tmp_path / "cluster.yaml"
    for wrong in ("file_mounts: [a]", "auth: []\nfile_mounts: x"):
        path.write_text(f"provider: {{type: gcp}}\n{wrong}\n", encoding="utf-8")
        with pytest.raises(UserError, match="file_mounts: is a mapping, not a"):
            read_cluster(path)
    path.write_text("provider: {type: local}\nauth:\n", encoding="utf-8")
    assert any("auth.ssh_private_key: is missing" in fault for fault in faults(read_cluster(path)))


def test_machines_of_ones_own_have_no_zone_and_a_file_is_never_left_worse(tmp_path):
    text = (ROOT / "docs" / "cluster-k80.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cluster.yaml"
    for flags in (("--zone", "us-east1-c"), ("--project", "our-school"), ("--gpu", "T4")):
        path.write_text(text, encoding="utf-8")
        refused = run("configure", path, *flags)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert path.read_text(encoding="utf-8") == text
    text = TEXT.replace("region: us-central1", 'region: "us-central1"')  # which is not found, and so not changed
    assert text != TEXT
    path.write_text(text, encoding="utf-8")
    refused = run("configure", path, "--zone", "europe-west4-a")
    assert refused.returncode == 2
    assert ": left as it is, since then: " in refused.stderr
    assert "provider.availability_zone europe-west4-a: is not in region" in refused.stderr
    assert path.read_text(encoding="utf-8") == text


def test_the_script_checks_and_configures(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(TEXT, encoding="utf-8")
    for name in ("requirements.txt", "constraints.txt", "samplecnn", "jobs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = run("configure", path, "--project", "our-school", "--gpu", "L4")
    assert (done.returncode, done.stdout) == (0, f"{path}: fits together, GPU L4\n"), done.stderr
    path.write_text(path.read_text(encoding="utf-8").replace("--zone=us-central1-a", "--zone=us-east1-b"))
    refused = run("check", path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "says another zone" in refused.stderr
    assert run("check", tmp_path / "nothing.yaml").returncode == 2
    unknown = run("lunch")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "configure" in run("--help").stdout
