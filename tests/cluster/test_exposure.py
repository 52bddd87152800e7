"""What a running endpoint shows of itself to other machines: nothing of ours, and of Ray's own ports only
what asks for a token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.client import Client
from penstock.store import Store
from tests import probe, untrained
from tests.cluster.serving import started, wait_until

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
AGENTS = ("DashboardAgent", "RuntimeEnvAgent")
RAYS_PAGES = (*AGENTS, "/dashboard.py", "/monitor.py")
"""Ray's processes that speak HTTP to other machines: for a cluster's other nodes, and counters."""


@pytest.fixture(scope="module", params=["proxy", "haproxy"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[psutil.Process, str]]:
    store = Store.open(tmp_path_factory.mktemp("exposure"))
    probe.publish(store)
    with started(store, "--ingress", request.param) as running:
        yield running


def listening(process: psutil.Process) -> list[tuple[str, int, str]]:
    """(address, port, process) of everything that the process and its descendants listen on."""
    found = []
    for one in [process, *process.children(recursive=True)]:
        try:
            name = " ".join(one.cmdline())[:200]
            found += [
                (c.laddr.ip, c.laddr.port, name) for c in one.net_connections("tcp") if c.status == "LISTEN"
            ]
        except psutil.Error:
            continue
    return found


def said_over_http(address: str, port: int, path: str) -> httpx.Response | None:
    """What a GET is answered, or None where no HTTP is spoken."""
    host = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(address, address)
    try:
        return httpx.get(f"http://{host}:{port}{path}", timeout=3, trust_env=False)
    except httpx.HTTPError:
        return None


def test_nothing_of_ours_listens_beyond_this_machine(served: tuple[psutil.Process, str]) -> None:
    """Every process of Ray's, ours among them, has a gRPC server of Ray's that is bound to all addresses.
    What speaks HTTP is bound to this machine's own address; Ray's agents and counters are not, and the
    agents tell a stranger nothing."""
    process, url = served
    at = httpx.URL(url).port
    found = listening(process)
    assert [address for address, port, _ in found if port == at] == ["127.0.0.1"]
    for address, port, name in found:
        if address in LOOPBACK:
            continue
        print(f"Ray's own: {address}:{port} {name[:100]}")
        assert not name.split()[0].endswith("haproxy")
        if said_over_http(address, port, "/") is None:
            continue
        assert any(one in name for one in RAYS_PAGES), f"{name} on {address}:{port}"
        for path in ("/v1/models", "/api/jobs/", "/api/job_agent/jobs/", "/api/serve/applications/"):
            said = said_over_http(address, port, path)
            assert said is not None
            counters = said.status_code == 200 and said.text.startswith("# HELP")
            assert counters or said.status_code in (401, 403, 404, 405), (
                f"{address}:{port}{path}: {said.text}"
            )


def test_ray_s_own_ports_ask_for_a_token(served: tuple[psutil.Process, str]) -> None:
    family = served[0].children(recursive=True)
    gcs = next(one for one in family if "gcs_server" in " ".join(one.cmdline()))
    port = next(c.laddr.port for c in gcs.net_connections("tcp") if c.status == "LISTEN")
    code = f"import ray; ray.init('127.0.0.1:{port}', logging_level='ERROR'); print('in')"
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_gcs_rpc_server_connect_timeout_s": "3"}
    env.pop("RAY_AUTH_TOKEN", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, timeout=120
    )
    assert done.returncode != 0 and "in" not in done.stdout.split()
    assert "token" in done.stderr.lower() or "unauthenticated" in done.stderr.lower(), done.stderr[-500:]


def test_nothing_is_left_when_it_is_killed(tmp_path: Path) -> None:
    """Ray's agents find out a minute later, by themselves; they hold no port that is ours."""
    store = Store.open(tmp_path)
    probe.publish(store)
    with started(store, "--ingress", "haproxy") as (process, _):
        family = process.children(recursive=True)
        assert any("haproxy" in " ".join(one.cmdline()) for one in family)
        process.kill()
        wait_until(lambda: all(title(one).startswith(AGENTS) for one in left(family)), 30)


def left(family: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def title(process: psutil.Process) -> str:
    try:
        return process.cmdline()[0].removeprefix("ray::")
    except (psutil.Error, IndexError):
        return AGENTS[0]  # gone between two looks


def test_no_pickle_is_loaded_in_a_serving_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own talk between its processes is not meant: it is behind the token. Nor is the code that numba
    compiled, which lies beside the source, as Python's own does: who can write there needs no pickle."""
    store = Store.open(tmp_path / "store")
    names = ("chatbot", "detection", "go", "recsys", "speech")
    for name in names:
        untrained.publish(store, name)
    audit = tmp_path / "audit"
    audit.mkdir()
    monkeypatch.setenv("PENSTOCK_AUDIT", str(audit))
    with started(store) as (process, url):
        serving = [one.pid for one in process.children(recursive=True) if "ServeReplica" in title(one)]
        with Client(url) as client:
            for model in names:
                assert client.predict(model, client.describe(model)["example"]["request"])
    assert len(serving) == len(names) + 1
    for pid in serving:
        said = (audit / f"{pid}.txt").read_text().splitlines()
        assert said[0].startswith("watched")
        assert [line for line in said[1:] if "/numba/core/" not in line] == []


def test_the_audit_hears_what_it_should(tmp_path: Path) -> None:
    code = "import pickle, decimal; pickle.loads(pickle.dumps(decimal.Decimal(1))); open('x.pt', 'w').close()"
    env = {**os.environ, "PENSTOCK_AUDIT": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path)
    (told,) = tmp_path.glob("*.txt")
    assert [line.split()[0] for line in told.read_text().splitlines()] == ["watched", "unpickled", "opened"]
