"""What a Google Cloud project needs before `ray up`, as gcloud commands that a person can read first."""

import shlex
from dataclasses import dataclass

from samplecnn.errors import UserError
from samplecnn.operations.cluster_file import Cluster

IAP = "35.235.240.0/20"  # where Google's ssh proxy comes from
APIS = ("compute", "iam", "iap", "cloudresourcemanager", "storage")


@dataclass(frozen=True)
class Step:
    """why: in words; command: what does it; there: succeeds where it is done already (empty: it may be repeated)."""

    why: str
    command: list[str]
    there: list[str]


def steps(cluster: Cluster) -> list[Step]:
    """All of it, in order. Raises UserError for a cluster that is not on Google Cloud."""
    provider = cluster.config["provider"]
    if provider.get("type") != "gcp":
        raise UserError(f"{cluster.path}: is not for Google Cloud: there is no project to set up")
    project, region = provider["project_id"], provider["region"]
    bucket = "/".join(cluster.bucket.split("/")[:3])
    head, worker = (f"samplecnn-{role}@{project}.iam.gserviceaccount.com" for role in ("head", "worker"))
    rule = "--network=samplecnn --direction=INGRESS --target-tags=samplecnn"
    nat = f"samplecnn --router=samplecnn --region={region}"

    def step(why: str, command: str, there: str = "") -> Step:
        told = [["gcloud", *shlex.split(text), f"--project={project}"] if text else [] for text in (command, there)]
        return Step(why, *told)

    def made(why: str, noun: str, name: str, flags: str, where: str = "") -> Step:
        return step(why, f"{noun} create {name} {where} {flags}", f"{noun} describe {name} {where}")

    def granted(why: str, on: str, who: str, role: str) -> Step:
        return step(why, f"{on} --member=serviceAccount:{who} --role={role}")

    return [
        step("the interfaces that are used", "services enable " + " ".join(f"{api}.googleapis.com" for api in APIS)),
        made("a network of its own", "compute networks", "samplecnn", "--subnet-mode=auto"),
        made(
            "its machines may talk to each other",
            *("compute firewall-rules", "samplecnn-internal"),
            f"{rule} --source-tags=samplecnn --allow=tcp,udp,icmp",
        ),
        made(
            "ssh comes in through Google's proxy alone",
            *("compute firewall-rules", "samplecnn-iap"),
            f"{rule} --source-ranges={IAP} --allow=tcp:22",
        ),
        made("a router for the NAT", "compute routers", "samplecnn", "--network=samplecnn", f"--region={region}"),
        step(
            "the way out for machines without public addresses",
            f"compute routers nats create {nat} --auto-allocate-nat-external-ips --nat-all-subnet-ip-ranges",
            f"compute routers nats describe {nat}",
        ),
        *(
            step(
                f"the account of {whose}",
                f"iam service-accounts create {email.partition('@')[0]}",
                f"iam service-accounts describe {email}",
            )
            for whose, email in (("the head", head), ("the workers", worker))
        ),
        Step(
            "the head may start and delete machines",
            shlex.split(
                f"gcloud projects add-iam-policy-binding {project} --member=serviceAccount:{head} "
                "--role=roles/compute.instanceAdmin.v1 --condition=None"
            ),
            [],
        ),
        granted(
            "the head may give workers their account",
            f"iam service-accounts add-iam-policy-binding {worker}",
            *(head, "roles/iam.serviceAccountUser"),
        ),
        made(
            "the bucket",
            *("storage buckets", bucket),
            f"--location={region} --uniform-bucket-level-access --public-access-prevention",
        ),
        *(
            granted(
                f"{whose} may read and write the bucket",
                f"storage buckets add-iam-policy-binding {bucket}",
                *(email, "roles/storage.objectAdmin"),
            )
            for whose, email in (("the head", head), ("the workers", worker))
        ),
    ]
