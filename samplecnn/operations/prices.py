"""What machines cost, for an estimate before a run. Edit the table: prices differ by region and change.

US dollars an hour in us-central1, from the SkyPilot project's catalogue of Google's price list
(github.com/skypilot-org/skypilot-catalog, catalogs/v8/gcp/vms.csv of commit 8427bbff, read on 2026-11-27). Disks,
network and the bucket come on top. Google gives no price for a K80 any more.
"""

from collections.abc import Mapping
from typing import Any

AS_OF = "2026-11-27, us-central1"
HOURLY_USD = {  # on demand, spot
    "e2-standard-4": (0.13402, 0.06188),
    "e2-standard-8": (0.26805, 0.12376),
    "n1-standard-8": (0.38000, 0.11605),
    "g2-standard-8": (0.29358, 0.11747),
    "nvidia-tesla-t4": (0.35000, 0.17500),
    "nvidia-l4": (0.56004, 0.22310),  # comes with g2 machines, on the bill apart
}


def hourly_usd(node_type: Mapping[str, Any]) -> float | None:
    """What one machine of a node type of cluster.yaml costs an hour; None where the table has no price."""
    node = node_type["node_config"]
    spot = node.get("scheduling", {}).get("provisioningModel") == "SPOT"
    items = [node["machineType"], *(["nvidia-l4"] if node["machineType"].startswith("g2-") else [])]
    for accelerator in node.get("guestAccelerators", []):
        items += [accelerator["acceleratorType"]] * accelerator["acceleratorCount"]
    if any(item not in HOURLY_USD for item in items):
        return None
    return sum(HOURLY_USD[item][spot] for item in items)


def run_usd(types: Mapping[str, Mapping[str, Any]], workers: Mapping[str, int], hours: float) -> float | None:
    """What so many workers of each node type cost for so many hours, without the head; None without a price."""
    total = 0.0
    for name, count in workers.items():
        if count:
            if name not in types or (price := hourly_usd(types[name])) is None:
                return None
            total += count * price * hours
    return total
