"""Google's notice, from a stand-in for its metadata server, to Ray, on a real head."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from samplecnn.operations.preemption import wait_for_notice
from tests.fixtures.head import running_head
from tests.fixtures.jobs import ROOT


class Metadata(ThreadingHTTPServer):
    """Answers as Google's metadata server does: at once where the value is another than the asker knows, else later."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.preempted = threading.Event()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        known = parse_qs(urlsplit(self.path).query)["last_etag"][0]
        if self.headers["Metadata-Flavor"] != "Google":
            self.send_error(403)
            return
        if known == "first":
            self.server.preempted.wait(60)
        gone = self.server.preempted.is_set()
        self.send_response(200)
        self.send_header("ETag", "second" if gone else "first")
        self.end_headers()
        self.wfile.write(b"TRUE" if gone else b"FALSE")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_metadata() -> Iterator[Metadata]:
    with Metadata() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.preempted.set()
            server.shutdown()
            thread.join()


def test_a_notice_is_waited_for_with_one_open_question():
    with running_metadata() as server:
        threading.Thread(target=preempt_once_asked, args=(server,)).start()
        assert wait_for_notice(server.address)
        assert len(server.asked) == 2
        assert wait_for_notice(server.address)  # one that came before anybody asked


def preempt_once_asked(server) -> None:
    while len(server.asked) < 2:  # the first one is answered at once, and says how things stand
        time.sleep(0.01)
    server.preempted.set()


def test_where_there_is_no_metadata_server_it_ends_by_itself():
    assert not wait_for_notice("http://127.0.0.1:9", absent_s=0.2, pause_s=0.1)


# A driver with a worker on the node, which keeps it alive: an idle node goes as soon as it is drained.
BUSY = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
class Worker:
    def there(self):
        return ray.get_runtime_context().get_node_id()
worker = Worker.remote()
node = ray.get(worker.there.remote())
for _ in range(2):
    print(node in ray._private.state.state.get_draining_nodes(), flush=True)
    sys.stdin.readline()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_ray_is_told_that_the_node_of_this_machine_goes():
    with running_metadata() as server, running_head({}) as head, ExitStack() as stack:
        known = {**head.environment, "PYTHONPATH": str(ROOT)}

        def start(*command: str) -> subprocess.Popen[str]:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            process = subprocess.Popen([sys.executable, *command], env=known, text=True, **pipes)
            stack.callback(process.kill)
            return stack.enter_context(process)

        watcher = start(str(ROOT / "scripts" / "drain_on_notice.py"), head.gcs, "--metadata", server.address)
        driver = start("-c", BUSY, head.gcs)
        assert driver.stdout
        assert driver.stdin
        assert driver.stdout.readline() == "False\n"
        assert watcher.poll() is None
        server.preempted.set()
        out, _ = watcher.communicate(timeout=120)
        assert (watcher.returncode, out.splitlines()[-1]) == (0, "drained: this machine goes"), out
        driver.stdin.write("look again\n")
        driver.stdin.flush()
        assert driver.stdout.readline() == "True\n"
