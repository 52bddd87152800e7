"""The head of a cluster, started as cluster.yaml starts it, on free ports of this machine."""

from __future__ import annotations

import os
import secrets
import shlex
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

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    dashboard: str
    address: str
    env: Mapping[str, str]

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.env['RAY_AUTH_TOKEN']}"}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A command as an operator runs it."""
        return subprocess.run(
            [BIN / words[0], *words[1:]],
            env=dict(self.env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def applications(self) -> dict[str, Any]:
        """What the dashboard says of Serve's applications."""
        found = httpx.get(
            f"{self.dashboard}/api/serve/applications/", headers=self.token, trust_env=False, timeout=30
        )
        applications: dict[str, Any] = found.raise_for_status().json()["applications"]
        return applications


def free_ports(count: int) -> list[int]:
    """Free ones of this machine's own address."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@contextmanager
def head(folder: Path, **env: str) -> Iterator[Head]:
    """Runs until the block ends, and leaves no process behind. Its settings come from
    `python -m penstock.cluster`, its token from RAY_AUTH_TOKEN; `folder`: for what it prints."""
    port, dashboard, agent, grpc, client, metrics = free_ports(6)
    with tempfile.TemporaryDirectory(prefix="ps", ignore_cleanup_errors=True) as temp:
        options = {
            "port": port,
            "node-ip-address": "127.0.0.1",
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "dashboard-agent-listen-port": agent,
            "dashboard-agent-grpc-port": grpc,
            "ray-client-server-port": client,
            "metrics-export-port": metrics,
            "min-worker-port": 0,
            "max-worker-port": 0,
            "num-cpus": 4,
            "temp-dir": temp,
        }
        words = [
            "ray",
            "start",
            "--head",
            "--block",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        start = f'eval "$(python -m penstock.cluster)" && exec {shlex.join(words)}'
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        known = {
            **inherited,
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **env,
        }
        found = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", known)
        with (folder / "head.log").open("w") as log:
            process = subprocess.Popen(
                ["bash", "-c", start], env=known, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _until_healthy(found, process, folder / "head.log")
            yield found
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            _, alive = psutil.wait_procs(family, timeout=30)
            for each in alive:
                each.kill()
        assert alive == [], "processes of the head stayed"


def _until_healthy(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
        try:
            found = httpx.get(
                f"{head.dashboard}/api/serve/applications/", headers=head.token, trust_env=False
            )
            if found.status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
