"""A spot machine's notice: Google tells it some 30 s before it goes, and Ray has to be told to use it no more.

Ray's Google provider knows nothing of the notice. A node that is drained with Ray's reason "preemption" gets no new
work and goes at once if it is idle; Ray Train is told, instead of finding its worker dead.
"""

import logging
import subprocess
import time
import urllib.request
from collections.abc import Callable

import ray

log = logging.getLogger(__name__)

METADATA = "http://metadata.google.internal"
NOTICE_S = 25  # of Google's 30: learning of it takes its time
HOLD_S = 60  # how long a question is left open
ABSENT_S = 120.0  # no answer at all for so long: no machine of Google's


def wait_for_notice(metadata: str = METADATA, absent_s: float = ABSENT_S, pause_s: float = 5.0) -> bool:
    """Wait until this machine is about to be taken away: True; False where there is no metadata server to say so."""
    etag, since = "0", time.monotonic()  # "0": answer at once, whatever the value is
    while True:
        question = f"{metadata}/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec={HOLD_S}"
        request = urllib.request.Request(f"{question}&last_etag={etag}", headers={"Metadata-Flavor": "Google"})
        try:
            with urllib.request.urlopen(request, timeout=HOLD_S + 10) as answer:
                if answer.read().strip() == b"TRUE":
                    return True
                etag = answer.headers.get("ETag") or "0"
        except OSError as error:
            if etag == "0" and time.monotonic() - since > absent_s:
                log.info("no metadata server (%s): not a machine of Google's", error)
                return False
            time.sleep(pause_s)


def drain(address: str, run: Callable[..., object] = subprocess.run) -> None:
    """Tell Ray that the node of this machine goes. address: host:port of the cluster."""
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    node = ray.get_runtime_context().get_node_id()
    ray.shutdown()
    reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "Google takes this spot machine away"]
    deadline = ["--deadline-remaining-seconds", str(NOTICE_S)]
    run(["ray", "drain-node", "--address", address, "--node-id", node, *reason, *deadline], check=True)
