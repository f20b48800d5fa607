"""A Google Cloud small enough for one machine: its API over TLS, and machines that are namespaces with sshd.

Runs as process 1 of network, PID and mount namespaces of its own (`in_a_world`): when it ends, however it ends, the
kernel ends every process in it and removes its interfaces and mounts.
"""

import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.cluster.discovery import DOCUMENTS, called

GATEWAY = "10.200.0.1"
PROJECT = "my-project"
HOME = Path("/tmp/laptop")
SHARED = Path("/tmp/image")  # what every machine's image holds: Google's certificate, an account's key, sshd's keys


def sh(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Google:
    """instances: by name, as instances.get shows them. calls: ids of methods. refused: requests with faults."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.calls: list[str] = []
        self.refused: list[str] = []
        self.metadata: dict[str, Any] = {"fingerprint": "0", "items": []}
        self.policy: dict[str, Any] = {"bindings": []}
        self.account: dict[str, Any] | None = None
        self.token = secrets.token_hex(16)
        self.lock = threading.RLock()
        self.addresses = iter(range(2, 250))
        self.numbers: dict[str, int] = {}
        self.going: set[str] = set()
        self.no_gpus = False  # the project's quota: asked for, a machine with a GPU is refused
        self.notice = threading.Condition()

    def answer(self, method: str, named: dict[str, str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        done = {"name": "operation", "status": "DONE", "done": True}
        name = named.get("instance", "")
        if name and name not in self.instances:
            return 404, {"error": {"code": 404, "message": f"no instance {name}"}}
        match method:
            case "cloudresourcemanager.projects.get":
                return 200, {"projectId": PROJECT, "lifecycleState": "ACTIVE"}
            case "cloudresourcemanager.projects.getIamPolicy":
                return 200, self.policy
            case "cloudresourcemanager.projects.setIamPolicy":
                self.policy = body["policy"]
                return 200, self.policy
            case "iam.projects.serviceAccounts.get":
                missing = {"error": {"code": 404, "message": "no such account"}}
                return (200, self.account) if self.account else (404, missing)
            case "iam.projects.serviceAccounts.create":
                email = f"{body['accountId']}@{PROJECT}.iam.gserviceaccount.com"
                self.account = {"email": email, "projectId": PROJECT}
                return 200, self.account
            case "compute.projects.get":
                return 200, {"name": PROJECT, "commonInstanceMetadata": self.metadata}
            case "compute.projects.setCommonInstanceMetadata":
                self.metadata = body
                return 200, done
            case "compute.zoneOperations.get" if named["operation"] == "refused":
                fault = {
                    "code": "QUOTA_EXCEEDED",
                    "message": "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
                }
                return 200, {**done, "name": "refused", "error": {"errors": [fault]}}
            case "compute.zoneOperations.get" | "compute.globalOperations.get":
                return 200, done
            case "compute.instances.insert" if self.no_gpus and body.get("guestAccelerators"):
                return 200, {**done, "name": "refused"}
            case "compute.instances.insert":
                self.boot(body)
                return 200, done
            case "compute.instances.list":
                wanted = dict(re.findall(r"labels\.([\w-]+) = ([\w-]+)", query.get("filter", "")))
                statuses = re.findall(r"status = (\w+)", query.get("filter", ""))
                items = [
                    instance
                    for instance in self.instances.values()
                    if instance["status"] in statuses and wanted.items() <= instance["labels"].items()
                ]
                return 200, {"items": items}
            case "compute.instances.get":
                return 200, self.instances[name]
            case "compute.instances.setLabels":
                self.instances[name]["labels"] = body["labels"]
                return 200, done
            case "compute.instances.delete":
                self.halt(name)
                return 200, done
        return 501, {"error": {"code": 501, "message": f"{method}: the stand-in does not know it"}}

    def boot(self, body: dict[str, Any]) -> None:
        """A machine: namespaces of its own on the bridge, and sshd that knows the project's key."""
        name, number = body["name"], next(self.addresses)
        keys = [item["value"] for item in self.metadata.get("items", []) if item["key"] == "ssh-keys"]
        public = "\n".join(line.partition(":")[2] for key in keys for line in key.splitlines())
        (SHARED / f"{name}.keys").write_text(public + "\n", encoding="utf-8")
        command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child=KILL"]
        command += ["bash", str(Path(__file__).with_name("machine.sh")), name, str(number)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        inner = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        while not inner:
            inner = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert process.stdout.readline() == b"waits\n"
        sh("ip", "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", inner[0])
        sh("ip", "link", "set", f"v{number}", "master", "cloud", "up")
        assert process.stdout.readline() == b"up\n"
        with (SHARED / "hosts").open(
            "a", encoding="utf-8"
        ) as hosts:  # Google's names; gloo takes its address from them
            hosts.write(f"10.200.0.{number} {name}\n")
        self.processes[name], self.numbers[name] = process, number
        interface = {**body["networkInterfaces"][0], "networkIP": f"10.200.0.{number}"}
        self.instances[name] = {**body, "status": "RUNNING", "labelFingerprint": "0", "networkInterfaces": [interface]}

    def halt(self, name: str) -> None:
        """As a preemption or a deletion does: gone at once, and all that ran on it."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()
        del self.instances[name]

    def cut(self, name: str) -> None:
        """No packet comes or goes any more, and nobody is told."""
        sh("ip", "link", "set", f"v{self.numbers[name]}", "down")

    def give_notice(self, name: str) -> None:
        """What Google's metadata server says some 30 s before a spot machine goes."""
        with self.notice:
            self.going.add(name)
            self.notice.notify_all()

    def cpu_s(self, name: str, words: str) -> float:
        """Processor time of the living processes of a machine whose command holds these words."""
        ticks = 0
        try:
            network = os.readlink(f"/proc/{self._first(name)}/ns/net")
        except (KeyError, OSError, IndexError):  # the machine has just been deleted
            return 0.0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns" / "net") == network and words in (process / "cmdline").read_text():
                    ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
            except OSError:  # it has ended
                continue
        return ticks / os.sysconf("SC_CLK_TCK")

    def read(self, name: str, path: str) -> str:
        """A file of a machine, "" where there is none."""
        file = Path(f"/proc/{self._first(name)}/root{path}")
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def _first(self, name: str) -> str:
        """The number, as this process sees it, of a machine's process 1."""
        outer = self.processes[name].pid
        return Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0]


def serve(google: Google) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service = str(self.headers["Host"]).partition(".")[0]
            parts = urlsplit(self.path)
            if service == "oauth2":
                granted = b"assertion=" in raw
                answer = {"access_token": google.token, "expires_in": 3600, "token_type": "Bearer"}
                return self._say(200 if granted else 400, answer if granted else {"error": "invalid_grant"})
            if self.headers.get("Authorization") != f"Bearer {google.token}":
                return self._say(401, {"error": {"code": 401, "message": "no token"}})
            query = dict(parse_qsl(parts.query))
            body = json.loads(raw) if raw else None
            method, named, fault = called(service, self.command, unquote(parts.path), query, body)
            with google.lock:
                google.calls.append(method)
                if fault:
                    google.refused.append(f"{method} {fault}")
                    return self._say(400, {"error": {"code": 400, "message": fault}})
                return self._say(*google.answer(method, named, query, body))

        def _say(self, code: int, answer: Any) -> None:
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _any

    class Metadata(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            """Whether the asker goes: at once where it knows another answer than the true one, else later."""
            if "instance/preempted?" not in self.path:
                self.send_error(404)
                return
            names = {f"10.200.0.{number}": name for name, number in [*google.numbers.items()]}
            asker = names[self.client_address[0]]
            known = dict(parse_qsl(urlsplit(self.path).query))["last_etag"]
            with google.notice:
                google.notice.wait_for(lambda: asker in google.going, timeout=60 if known == "stays" else 0)
                goes = asker in google.going
            self.send_response(200)
            self.send_header("ETag", "goes" if goes else "stays")
            self.end_headers()
            self.wfile.write(b"TRUE" if goes else b"FALSE")

    threading.Thread(target=ThreadingHTTPServer((GATEWAY, 80), Metadata).serve_forever, daemon=True).start()
    server = ThreadingHTTPServer((GATEWAY, 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SHARED / "google.crt", SHARED / "google.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def enter() -> Google:
    """Make the world around this process, which is number 1 of its own namespaces, and Google in it."""
    assert os.getpid() == 1, "start it by in_a_world: nothing outside may be touched"
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for place in ("/tmp", "/run", "/dev/shm", "/home"):
        sh("mount", "-t", "tmpfs", "tmpfs", place)
    for place in (HOME / ".ray", SHARED, Path("/run/sshd")):
        place.mkdir(parents=True)
    hosts = [f"{GATEWAY} {name}.googleapis.com" for name in (*DOCUMENTS, "oauth2")]
    hosts.append(f"{GATEWAY} metadata.google.internal")
    # ubuntu before root, whose number it bears: ssh asks by number where its user's ~ is.
    for name, text in (
        ("hosts", "127.0.0.1 localhost\n" + "\n".join(hosts) + "\n"),
        ("passwd", "ubuntu:x:0:0::/home/ubuntu:/bin/bash\n" + Path("/etc/passwd").read_text()),
    ):
        (SHARED / name).write_text(text, encoding="utf-8")
        sh("mount", "--bind", str(SHARED / name), f"/etc/{name}")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "cloud", "type", "bridge")
    sh("ip", "address", "add", f"{GATEWAY}/24", "dev", "cloud")
    sh("ip", "link", "set", "cloud", "up")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=googleapis.com",
         "-addext", "subjectAltName=DNS:*.googleapis.com", "-keyout", SHARED / "google.key",
         "-out", SHARED / "google.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    account = {
        "type": "service_account", "project_id": PROJECT, "client_email": f"test@{PROJECT}.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token", "private_key": (SHARED / "google.key").read_text(),
        "private_key_id": "1", "client_id": "1",
    }  # fmt: skip
    (SHARED / "account.json").write_text(json.dumps(account), encoding="utf-8")
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(SHARED / "host_key"))
    (SHARED / "bashrc").write_text(
        f"export HTTPLIB2_CA_CERTS={SHARED}/google.crt GOOGLE_APPLICATION_CREDENTIALS={SHARED}/account.json\n"
    )
    (SHARED / "venv").symlink_to(Path(sys.executable).parent.parent)
    (HOME / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    os.environ.update(
        HOME=str(HOME), HTTPLIB2_CA_CERTS=f"{SHARED}/google.crt", RAY_USAGE_STATS_ENABLED="0", USER="root",
        GOOGLE_APPLICATION_CREDENTIALS=f"{SHARED}/account.json",
    )  # fmt: skip
    google = Google()
    serve(google)
    return google


def in_a_world(module: str) -> list[str]:
    """The command that runs a module as the first process of a world."""
    namespaces = ["--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child=KILL"]
    return ["unshare", *namespaces, "--propagation", "private", sys.executable, "-m", module]
