"""Why machines do not come: forms of Compute Engine's answers, as Ray's log and status show them."""

import pytest

from samplecnn.operations.launches import launch_failures

STOCK_OUT = """ERROR -- Failed to launch 1 node(s) of type gpu.
Exception: {'errors': [{'code': 'ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS', 'errorDetails': [{'errorInfo': {'domain':
'compute.googleapis.com', 'metadatas': {'attachment': 'nvidia-tesla-t4:1', 'vmType': 'n1-standard-4', 'zone':
'us-central1-b', 'zonesAvailable': 'us-central1-a,us-central1-f'}, 'reason': 'resource_availability'}}], 'message':
"The zone 'projects/p/zones/us-central1-b' does not have enough resources available to fulfill the request."}]}"""
STATUS = """======== Autoscaler status: 2026-11-27 02:10:11 ========
Node status
--------------------------------------------------------
Active:
 1 head
Pending:
 gpu, 1 launching
Recent failures:
 gpu: LaunchFailed (latest_attempt: 02:09:58) - {'errors': [{'code': 'ZONE_RESOURCE_POOL_EXHAUSTED', 'message': '...'}]}
"""
FORMS = {
    STOCK_OUT: ("none of these machines left in the zone (it has some in us-central1-a,us-central1-f)", False),
    STATUS: ("none of these machines left in the zone: try later", False),
    "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.": ("quota GPUS_ALL_REGIONS is used up (limit 0.0)", True),
    "Quota 'NVIDIA_T4_GPUS' exceeded. Limit: 1.0 in region us-central1.": ("quota NVIDIA_T4_GPUS", True),
    '400: Accelerator type "nvidia-tesla-k80" does not exist in zone us-east1-c.': (
        "zone us-east1-c has no nvidia-tesla-k80; Google Cloud ended the K80 in May 2024",
        True,
    ),
    "The resource 'projects/p/zones/us-west1-b/acceleratorTypes/nvidia-tesla-p4' was not found": (
        "zone us-west1-b has no nvidia-tesla-p4: change the zone",
        True,
    ),
    "The resource 'projects/d/global/images/family/common-cpu' was not found": ("image family common-cpu", True),
    "Required 'compute.instances.create' permission for 'projects/p'": ("permission compute.instances.create", True),
    "NodeUpdater: ray-gpu-1: New status: update-failed": ("a machine came up and its set-up failed", False),
}


@pytest.mark.parametrize("text", FORMS, ids=lambda text: text[:20])
def test_an_answer_of_googles_becomes_words_for_a_person(text):
    words, permanent = FORMS[text]
    (found,) = launch_failures(text)
    assert words in str(found)
    assert found.permanent == permanent


@pytest.mark.parametrize(
    ("text", "gpus", "cpus"),
    [
        ("Quota 'GPUS_ALL_REGIONS' exceeded.", True, False),
        ("Quota 'NVIDIA_T4_GPUS' exceeded.", True, False),
        ('Accelerator type "nvidia-tesla-k80" does not exist in zone us-east1-c.', True, False),
        ("Quota 'CPUS' exceeded.", True, True),
        ("Required 'compute.instances.create' permission for 'projects/p'", True, True),
        (STATUS, False, False),
    ],
)
def test_what_keeps_gpus_away_need_not_keep_cores_away(text, gpus, cpus):
    (found,) = launch_failures(text)
    assert (found.forbids("GPU"), found.forbids("CPU")) == (gpus, cpus)


def test_what_was_said_many_times_is_told_once_and_in_order():
    quota = "Quota 'GPUS_ALL_REGIONS' exceeded."
    found = launch_failures(f"{quota}\n{STATUS}\n{quota}\n{quota}")
    assert [failure.permanent for failure in found] == [True, False]


def test_a_healthy_cluster_says_nothing():
    assert launch_failures("Active:\n 1 head\nRecent failures:\n (no failures)\n") == []
