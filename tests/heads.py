"""The head of a cluster of its own: `ray start` on free ports, behind a token of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

START_S = 120
_PORTS = ("port", "dashboard-port", "ray-client-server-port", "metrics-export-port", "runtime-env-agent-port")
_AGENT_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")


@dataclass(frozen=True)
class Head:
    """`url`: its dashboard; `address`: for RAY_ADDRESS; `token`: the file that holds it."""

    url: str
    address: str
    token: Path

    @property
    def env(self) -> dict[str, str]:
        """What a client of the cluster has in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}


@contextmanager
def started(cpus: int = 4, env: Mapping[str, str] | None = None) -> Iterator[Head]:
    """A head with `cpus` logical CPUs while the block runs; none of its processes stays."""
    folder = Path(tempfile.mkdtemp(prefix="ph-"))  # short: Ray's sockets lie below
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    ports = dict(zip((*_PORTS, *_AGENT_PORTS), free_ports(len(_PORTS) + len(_AGENT_PORTS)), strict=True))
    head = Head(f"http://127.0.0.1:{ports['dashboard-port']}", f"127.0.0.1:{ports['port']}", token)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
    environment = {
        **kept,
        **head.env,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **(env or {}),
    }
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("ray"),
            *("start", "--head", "--block", "--disable-usage-stats", f"--num-cpus={cpus}"),
            *("--node-ip-address=127.0.0.1", f"--temp-dir={folder / 'r'}"),
            *("--min-worker-port=0", "--max-worker-port=0"),  # any free ones: other clusters have theirs
            *(f"--{name}={port}" for name, port in ports.items()),
        ],
        cwd=folder,  # what lies where Ray was started is on its workers' path
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    family: list[psutil.Process] = []
    try:
        _until_ready(process, head)
        family = psutil.Process(process.pid).children(recursive=True)
        yield head
    finally:
        if process.poll() is None:
            family += psutil.Process(process.pid).children(recursive=True)
        for one in [process, *family]:  # all at once: `ray start` would end its own one by one
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGTERM)
        for one in psutil.wait_procs(family, timeout=5)[1]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


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


def _until_ready(process: subprocess.Popen[str], head: Head) -> None:
    """Until the job server answers."""
    header = {"Authorization": f"Bearer {head.token.read_text()}"}
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0][-2000:])
        try:
            if httpx.get(f"{head.url}/api/jobs/", headers=header, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"no dashboard at {head.url} after {START_S} s")
