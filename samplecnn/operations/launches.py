"""Why machines do not come, in words for a person.

Ray's autoscaler tries again for ever and tells its log alone. What Google answers is found there (v1) or in the
cluster's status (v2) as text; the forms below are those of Compute Engine's API.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchFailure:
    """What Google said and what to change. permanent: waiting will not help; of_gpus: it keeps away machines with a
    GPU, and no others."""

    what: str
    cure: str
    permanent: bool
    of_gpus: bool = False

    def forbids(self, kind: str) -> bool:
        """Will machines with this, GPU or CPU, not come however long one waits?"""
        return self.permanent and (kind == "GPU" or not self.of_gpus)

    def __str__(self) -> str:
        return f"{self.what}: {self.cure}"


def launch_failures(text: str) -> list[LaunchFailure]:
    """The reasons for missing machines that a log or a status names, each once, in order."""
    found = [(match.start(), make(match, text)) for pattern, make in _FORMS for match in re.finditer(pattern, text)]
    ordered = [failure for _, failure in sorted(found, key=lambda pair: pair[0])]
    return list(dict.fromkeys(ordered))


def _stock_out(_: re.Match[str], text: str) -> LaunchFailure:
    zones = re.search(r"zonesAvailable\W+([a-z0-9,-]+)", text)
    elsewhere = f" (it has some in {zones[1].strip(',')})" if zones and zones[1].strip(",") else ""
    return LaunchFailure(
        f"Google has none of these machines left in the zone{elsewhere}",
        "try later, or change the zone or the GPU type: scripts/cluster.py configure",
        permanent=False,
    )


def _quota(match: re.Match[str], _: str) -> LaunchFailure:
    limit = f" (limit {match['limit']})" if match["limit"] else ""
    return LaunchFailure(
        f"quota {match['name']} is used up{limit}",
        "ask for more in the console under IAM & Admin, Quotas, or lower max_workers",
        permanent=True,
        of_gpus="GPU" in match["name"],
    )


def _unknown_gpu(match: re.Match[str], _: str) -> LaunchFailure:
    ended = "; Google Cloud ended the K80 in May 2024" if "k80" in match["name"] else ""
    return LaunchFailure(
        f"zone {match['zone']} has no {match['name']}{ended}",
        "change the zone or the GPU type: scripts/cluster.py configure",
        permanent=True,
        of_gpus=True,
    )


def _image(match: re.Match[str], _: str) -> LaunchFailure:
    return LaunchFailure(
        f"image family {match['name']} is not there", "name one that is: gcloud compute images list", permanent=True
    )


def _denied(match: re.Match[str], _: str) -> LaunchFailure:
    return LaunchFailure(
        f"permission {match['name']} is missing", "run scripts/cluster.py setup (it grants it)", permanent=True
    )


def _set_up(match: re.Match[str], _: str) -> LaunchFailure:
    return LaunchFailure(
        f"a machine came up and its set-up failed ({match['name']})",
        "look into the autoscaler's log: ray monitor cluster.yaml",
        permanent=False,
    )


_FORMS = (
    (r"ZONE_RESOURCE_POOL_EXHAUSTED(?:_WITH_DETAILS)?|does not have enough resources available", _stock_out),
    (r"Quota '(?P<name>\w+)' exceeded\.(?:\s+Limit: (?P<limit>[\d.]+))?", _quota),
    (r"[Aa]ccelerator type \\*\"?(?P<name>[\w-]+)\\*\"? does not exist in zone (?P<zone>[\w-]+)", _unknown_gpu),
    (r"zones/(?P<zone>[\w-]+)/acceleratorTypes/(?P<name>[\w-]+)' was not found", _unknown_gpu),
    (r"global/images/family/(?P<name>[\w.-]+)' was not found", _image),
    (r"Required '(?P<name>[\w.]+)' permission", _denied),
    (r"(?P<name>[\w.]*serviceAccounts?\.actAs)\b", _denied),
    (r"New status: (?P<name>update-failed)", _set_up),
)
