"""cluster.yaml: what it says, what in it does not fit together, and the four things that a person chooses.

Ray's schema lets misspelt provider keys and any machine through, and Compute Engine answers only when a machine is
wanted; these rules speak before. They say nothing about what only Google knows: quota, stock, whether an image exists.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from samplecnn.errors import UserError, one_line

# Ray fills in what is missing, from values that are years old.
KEYS = frozenset(
    [
        *("cluster_name", "max_workers", "upscaling_speed", "idle_timeout_minutes", "docker", "provider", "auth"),
        *("head_node_type", "available_node_types", "file_mounts", "cluster_synced_files", "rsync_exclude"),
        *("file_mounts_sync_continuously", "rsync_filter", "initialization_commands", "setup_commands"),
        *("head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
    ]
)
OF_GOOGLE = frozenset({"head_node_type", "available_node_types"})
PROVIDER_KEYS = {
    "gcp": {"type", "project_id", "region", "availability_zone", "bucket", "use_internal_ips", "cache_stopped_nodes"},
    "local": {"type", "head_ip", "worker_ips", "bucket"},
}

GPU = "gpu"
GPU_KINDS = ("K80", "T4", "L4")
K80_END = "Google Cloud ended the K80 in May 2024 and refuses to start one"
# Image families that are known to be there and to hold what their nodes need. One of your own project passes too.
IMAGE_FAMILIES = frozenset(
    [
        "projects/ubuntu-os-cloud/global/images/family/ubuntu-2204-lts",
        "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580",
    ]
)
MOST_NAME = 35  # ray-<cluster>-worker-<8 hex>-compute is at most 63
ENVIRONMENT = (
    "RAY_AUTH_MODE=token",
    "RAY_USAGE_STATS_ENABLED=0",
    "RAY_grpc_client_keepalive_time_ms=",
    "RAY_grpc_client_keepalive_timeout_ms=",
)


@dataclass(frozen=True)
class Cluster:
    """A cluster file, read. config: the file with its aliases resolved, as Ray reads it."""

    path: Path
    config: dict[str, Any]

    @property
    def bucket(self) -> str:
        """The place under which this cluster's recordings, models, grades and run records lie."""
        return str(self.config["provider"].get("bucket", "")).rstrip("/")

    @property
    def zone(self) -> str:
        """Google's zone; "" for machines of one's own."""
        return str(self.config["provider"].get("availability_zone", ""))

    def node_types(self) -> dict[str, dict[str, Any]]:
        """The node types by name; none for machines of one's own."""
        return dict(self.config.get("available_node_types") or {})

    def gpu_kind(self) -> str:
        """Which of GPU_KINDS the workers have; "" if none is chosen."""
        kinds = [kind for kind in GPU_KINDS if _same_machine(self.node_types(), kind.lower())]
        return kinds[0] if len(kinds) == 1 else ""


def read_cluster(path: str | Path) -> Cluster:
    """Read a cluster file. Raises UserError where it is not there or is no YAML mapping."""
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: name your cluster's file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise UserError(f"{path}: no cluster file: it has no provider")
    for key in ("auth", "file_mounts", "available_node_types"):
        if not isinstance(config.get(key) or {}, dict):
            raise UserError(f"{path}: {key}: is a mapping, not a {type(config[key]).__name__}")
    return Cluster(Path(path), config)


def configured(text: str, **words: str) -> str:
    """A cluster file's text with other words: project, zone, bucket, gpu. Comments and layout stay.

    The region is the zone's. Raises UserError for a word that cannot be one.
    """
    for name, pattern in (
        ("project", r"[a-z][a-z0-9-]{4,28}[a-z0-9]"),
        ("zone", r"[a-z]+-[a-z]+\d+-[a-z]"),
        ("bucket", r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^\s#]*)?"),
        ("gpu", "|".join(GPU_KINDS)),
    ):
        if words.get(name) and not re.fullmatch(pattern, words[name]):
            raise UserError(f"--{name} {words[name]}: is no {name} of Google Cloud's")
    provider = yaml.safe_load(text)["provider"]
    if provider.get("type") != "gcp" and (words.get("project") or words.get("zone") or words.get("gpu")):
        raise UserError("--project, --zone and --gpu: go with provider.type gcp alone; machines of your own have none")
    if words.get("project"):
        for form in (r"project_id: ", r"projects/", r"--project=", r"samplecnn-\w+@"):
            text = re.sub(rf"({form}){re.escape(provider['project_id'])}\b", rf"\g<1>{words['project']}", text)
    if words.get("zone"):
        text = re.sub(rf"\b{re.escape(provider['availability_zone'])}\b", words["zone"], text)
        text = re.sub(rf"(region: ){re.escape(provider['region'])}\b", rf"\g<1>{_region(words['zone'])}", text)
    if words.get("bucket"):
        text = re.sub(r"(\n  bucket: )\S+", rf"\g<1>{words['bucket']}", text)
    if words.get("gpu"):
        text = re.sub(r"(<<: \*)\w+", rf"\g<1>{words['gpu']}", text)
        suffix = "-k80" if words["gpu"] == "K80" else ""
        for name in ("requirements", "constraints"):
            target = "constraints-k80" if suffix and name == "constraints" else name
            line = rf"\n  /home/ubuntu/{name}[\w-]*\.txt: {name}[\w-]*\.txt"
            text = re.sub(line, f"\n  /home/ubuntu/{target}.txt: {name}{suffix}.txt", text)
    return text


def faults(cluster: Cluster) -> list[str]:
    """What does not fit together, a line each; nothing is asked of anybody. Empty: `ray up` may be tried."""
    kind = cluster.config["provider"].get("type")
    if kind not in PROVIDER_KEYS:
        return [f"provider.type {kind}: these rules know gcp and local"]
    found = list(_common(cluster))
    if kind == "gcp":
        found += _google(cluster)
        for name, node_type in cluster.node_types().items():
            found += [f"available_node_types.{name}: {fault}" for fault in _node_type(cluster, name, node_type)]
    else:
        found += _own_machines(cluster.config)
    return found


def remarks(cluster: Cluster) -> list[str]:
    """What works but should be known before a launch."""
    found = []
    if cluster.config["provider"].get("type") == "gcp":
        if cluster.gpu_kind() == "K80":
            found.append(f"GPU K80: {K80_END}; your own cards: docs/cluster-k80.yaml")
        if _public(cluster.config):
            found.append("machines have public addresses: let ssh in from your own address only")
    return found


def _common(cluster: Cluster) -> Iterator[str]:
    config = cluster.config
    provider = config["provider"]
    wanted = KEYS if provider["type"] == "gcp" else KEYS - OF_GOOGLE
    for key in sorted(wanted - config.keys()):
        yield f"{key}: is missing, and Ray would fill in a value of its own: set it"
    for key in sorted(provider.keys() - PROVIDER_KEYS[provider["type"]]):
        yield f"provider.{key}: is not known (misspelt?); Ray would pass it by"
    if provider["type"] == "gcp" and not cluster.bucket.startswith("gs://"):
        yield f"provider.bucket {cluster.bucket!r}: give gs://bucket, where recordings, models and grades lie"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = config.get(key) or []
        starts = [command for command in commands if re.search(r"\bray start\b", command)]
        if len(starts) != 1 or "ray stop" not in commands:
            yield f"{key}: want `ray stop` and one `ray start`"
        for command in starts:
            for setting in ENVIRONMENT:
                if setting not in command:
                    yield f"{key}: {setting} is missing from the environment of `ray start`"
            if "--dashboard-host" in command:
                yield f"{key}: --dashboard-host opens the dashboard beyond the head: leave it out"
    head = " ".join(config.get("head_start_ray_commands") or [])
    if "--autoscaling-config" not in head:
        yield "head_start_ray_commands: without --autoscaling-config no worker ever comes"
    if "RAY_enable_autoscaler_v2=0" not in head:
        yield "head_start_ray_commands: RAY_enable_autoscaler_v2=0 is missing: v2 of Ray 2.60 loses workers"
    mounts = config.get("file_mounts") or {}
    if not any(remote.endswith("/.ray/auth_token") for remote in mounts):
        yield "file_mounts: the token is missing: /home/<user>/.ray/auth_token: ~/.ray/auth_token"
    for local in mounts.values():
        if not local.startswith("~") and not _mounted(cluster.path, local).exists():
            yield f"file_mounts: {local}: no such file or folder"


def _mounted(path: Path, local: str) -> Path:
    """Ray takes paths from where it is called: the top of the repository."""
    beside = path.resolve().parent
    return (beside.parent if beside.name == "docs" else beside) / local


def _google(cluster: Cluster) -> Iterator[str]:
    config, provider = cluster.config, cluster.config["provider"]
    name = str(config.get("cluster_name", ""))
    if not re.fullmatch(rf"[a-z][a-z0-9-]{{0,{MOST_NAME - 1}}}", name):
        yield f"cluster_name {name!r}: a-z, 0-9 and -, at most {MOST_NAME}: machines are named by it"
    region, zone, project = (str(provider.get(key, "")) for key in ("region", "availability_zone", "project_id"))
    if _region(zone) != region:
        yield f"provider.availability_zone {zone}: is not in region {region}"
    if provider.get("cache_stopped_nodes") is not False:
        yield "provider.cache_stopped_nodes: say false: stopped machines go on paying for their disks"
    proxy = str((config.get("auth") or {}).get("ssh_proxy_command", ""))
    if provider.get("use_internal_ips"):
        if not (config.get("auth") or {}).get("ssh_proxy_use_node_id") or "start-iap-tunnel" not in proxy:
            yield "auth: without public addresses ssh needs ssh_proxy_use_node_id and ssh_proxy_command"
        if _public(config):
            yield "accessConfigs gives a public address, while use_internal_ips promises none: take away one of them"
    elif not _public(config):
        yield "provider.use_internal_ips: true is missing, and there are no accessConfigs: ssh has no way in"
    if proxy and f"--project={project}" not in proxy.split():
        yield f"auth.ssh_proxy_command: says another project than provider.project_id ({project})"
    if proxy and f"--zone={zone}" not in proxy.split():
        yield f"auth.ssh_proxy_command: says another zone than provider.availability_zone ({zone})"
    types = cluster.node_types()
    if config.get("head_node_type") not in types:
        yield f"head_node_type {config.get('head_node_type')}: is none of available_node_types"
    if not cluster.gpu_kind():
        yield f"available_node_types.{GPU}: choose one kind, <<: *T4 for example (one of {', '.join(GPU_KINDS)})"
    for kind in GPU_KINDS:
        if types.get(kind.lower(), {}).get("max_workers"):
            yield f"available_node_types.{kind.lower()}: max_workers must be 0: only {GPU} is started"
    sources = " ".join((config.get("file_mounts") or {}).values())
    if ("requirements-k80.txt" in sources) != (cluster.gpu_kind() == "K80"):
        yield "file_mounts: requirements-k80.txt and constraints-k80.txt go with GPU K80, and with it alone"


def _node_type(cluster: Cluster, name: str, node_type: Mapping[str, Any]) -> Iterator[str]:
    provider = cluster.config["provider"]
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
        yield "becomes a label of machines: a-z, 0-9, _ and - only"
    node: Mapping[str, Any] = node_type.get("node_config", {})
    resources: Mapping[str, Any] = node_type.get("resources", {})
    machine = str(node.get("machineType", ""))
    cores = re.search(r"-(\d+)$", machine)
    if name == cluster.config.get("head_node_type"):
        if resources.get("CPU") != 0 or resources.get("GPU"):
            yield "resources: the head computes nothing: { CPU: 0 }"
    elif not cores or resources.get("CPU") != int(cores[1]):
        yield f"resources.CPU {resources.get('CPU')}: {machine} has another number of cores"
    accelerators = node.get("guestAccelerators", [])
    gpus = sum(accelerator.get("acceleratorCount", 0) for accelerator in accelerators) + machine.startswith("g2-")
    if resources.get("GPU", 0) != gpus:
        yield f"resources.GPU {resources.get('GPU', 0)}: the machine has {gpus}"
    if accelerators and not machine.startswith("n1-"):
        yield f"guestAccelerators: go with machines of the n1 family, not with {machine}"
    scheduling = node.get("scheduling", {})
    if not isinstance(scheduling, dict):
        yield "scheduling: is a mapping, not a list"
        scheduling = {}
    if gpus and scheduling.get("onHostMaintenance") != "TERMINATE":
        yield "scheduling.onHostMaintenance: a machine with a GPU wants TERMINATE"
    if scheduling.get("provisioningModel") == "SPOT":
        if scheduling.get("automaticRestart") is not False:
            yield "scheduling.automaticRestart: spot wants false"
        if scheduling.get("instanceTerminationAction") != "DELETE":
            yield "scheduling.instanceTerminationAction: say DELETE: a stopped spot machine leaves its disk behind"
    if gpus:
        commands = node_type.get("worker_setup_commands", [])
        if "nvidia-smi" not in commands:
            yield "worker_setup_commands: nvidia-smi is missing: Ray counts a GPU whose driver did not come up"
        if not set(cluster.config.get("setup_commands", [])) <= set(commands):
            yield "worker_setup_commands: replace setup_commands, so repeat those here"
    yield from _disks(node, provider, machine)
    if not node.get("networkInterfaces"):
        yield "networkInterfaces: is missing: Ray would take the first subnet and a public address"
    project = provider.get("project_id")
    accounts = [str(account.get("email")) for account in node.get("serviceAccounts", [])]
    if not accounts:
        yield "serviceAccounts: is missing: the machine could not read the bucket"
    for email in accounts:
        if not email.endswith(f"@{project}.iam.gserviceaccount.com"):
            yield f"serviceAccounts {email}: is of another project than provider.project_id ({project})"


def _disks(node: Mapping[str, Any], provider: Mapping[str, Any], machine: str) -> Iterator[str]:
    boots = [disk for disk in node.get("disks", []) if disk.get("boot")]
    if len(boots) != 1:
        yield f"disks: {len(boots)} boot disks: want one"
    for disk in boots:
        if disk.get("autoDelete") is not True:
            yield "disks: autoDelete: true is missing: the disk would outlive its machine"
        parameters = disk.get("initializeParams", {})
        image = str(parameters.get("sourceImage", ""))
        own = image.startswith(f"projects/{provider.get('project_id')}/")
        if not own and image not in IMAGE_FAMILIES:
            yield f"disks: sourceImage {image or '(none)'}: is no known image family"
        kind = str(parameters.get("diskType", ""))
        if not kind.startswith(f"zones/{provider.get('availability_zone')}/diskTypes/"):
            yield f"disks: diskType {kind or '(none)'}: is not in zone {provider.get('availability_zone')}"
        if machine.startswith("g2-") and kind.endswith("/pd-standard"):
            yield "disks: diskType pd-standard: g2 machines take pd-balanced or pd-ssd"


def _own_machines(config: Mapping[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    workers = provider.get("worker_ips") or []
    if not provider.get("head_ip") or not workers:
        yield "provider: give head_ip and worker_ips"
    if config.get("min_workers") != len(workers) or config.get("max_workers") != len(workers):
        yield f"min_workers and max_workers: there are {len(workers)} worker_ips"
    if not (config.get("auth") or {}).get("ssh_private_key"):
        yield "auth.ssh_private_key: is missing: the head logs in to the workers with it"
    setup = config.get("setup_commands") or []
    if not any("nvidia-smi" in command for command in setup):
        yield "setup_commands: nvidia-smi is missing: a machine without its driver must fail at once"
    if "requirements-k80.txt" not in " ".join((config.get("file_mounts") or {}).values()):
        yield "file_mounts: requirements-k80.txt is missing: newer builds of torch cannot drive a K80"


def _same_machine(types: Mapping[str, Any], name: str) -> bool:
    gpu = types.get(GPU)
    return gpu is not None and types.get(name, {}).get("node_config") == gpu.get("node_config")


def _public(config: Mapping[str, Any]) -> bool:
    return any(
        interface.get("accessConfigs")
        for node_type in (config.get("available_node_types") or {}).values()
        for interface in node_type.get("node_config", {}).get("networkInterfaces", [])
    )


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]
