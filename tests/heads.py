"""The head of a cluster of its own, started as cluster.yaml starts one: on free ports, behind a token."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

START_S = 120
BIN = Path(sys.executable).parent
_PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "ray-client-server-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)


@dataclass(frozen=True)
class Head:
    """`url`: its dashboard; `address`: for RAY_ADDRESS; `token`: the file that holds it; `started_in`: the
    environment of its processes."""

    url: str
    address: str
    token: Path
    started_in: Mapping[str, str]

    @property
    def env(self) -> dict[str, str]:
        """What a client of the cluster has in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.read_text()}"}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A command as an operator runs it on the head."""
        return subprocess.run(
            [BIN / words[0], *words[1:]],
            env=dict(self.started_in),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def applications(self) -> dict[str, Any]:
        """What the dashboard says of Serve's applications."""
        found = self.get("/api/serve/applications/").raise_for_status().json()
        applications: dict[str, Any] = found["applications"]
        return applications

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=self.header, trust_env=False, timeout=30)


@contextmanager
def started(cpus: int = 4, env: Mapping[str, str] | None = None) -> Iterator[Head]:
    """A head with `cpus` logical CPUs while the block runs; none of its processes stays. Its settings are
    those that `python -m penstock.cluster` prints."""
    folder = Path(tempfile.mkdtemp(prefix="ph-"))  # short: Ray's sockets lie below
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name != "PYTHONPATH"
    }
    known = {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_AUTH_TOKEN_PATH": str(token)}
    known |= {"RAY_AUTH_MODE": "token", **(env or {})}
    head = Head(f"http://127.0.0.1:{ports['dashboard-port']}", f"127.0.0.1:{ports['port']}", token, known)
    words = [
        *("ray", "start", "--head", "--block", "--disable-usage-stats", f"--num-cpus={cpus}"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={folder / 'r'}"),
        *("--min-worker-port=0", "--max-worker-port=0"),  # any free ones: other clusters have theirs
        *(f"--{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", f'eval "$(python -m penstock.cluster)" && exec {shlex.join(words)}'],
            cwd=folder,  # what lies where Ray was started is on its workers' path
            env=known,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    family: list[psutil.Process] = []
    try:
        _until_ready(process, head, folder / "log")
        yield head
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)  # `ray start` ends its own, one by one
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
            alive = psutil.wait_procs(family, timeout=30)[1]
            for each in alive:
                each.kill()
        shutil.rmtree(folder, ignore_errors=True)
    assert alive == [], "processes of the head stayed"


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def _until_ready(process: subprocess.Popen[bytes], head: Head, log: Path) -> None:
    """Until Serve's and the jobs' servers answer."""
    until = time.monotonic() + START_S
    while True:
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
        try:
            if all(head.get(f"/api/{of}/").status_code == 200 for of in ("jobs", "serve/applications")):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
