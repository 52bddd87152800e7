"""`serve deploy deploy/serve.yaml` on a head as cluster.yaml starts it: answers, follows, survives, ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import yaml

from penstock import registry
from penstock.serving.following import until_served
from penstock.serving.web import access
from penstock.store import Store
from tests import probe
from tests.cluster.head import Head, free_ports, head
from tests.cluster.serving import replicas, wait_until

FILE = Path(__file__).resolve().parents[2] / "deploy" / "serve.yaml"


def red(url: str, secret: str) -> float:
    answer = httpx.post(
        f"{url}/v1/models/probe/predict",
        content=probe.png(),
        headers={"Content-Type": "image/png", "Authorization": f"Bearer {secret}"},
        trust_env=False,
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return float(answer.json()["red"])


def keeper(head: Head) -> list[int]:
    """The pid of the keeper's replica, while Serve says that it runs."""
    found = head.applications()["penstock"]["deployments"]["Keeper"]["replicas"]
    return [one["pid"] for one in found if one["state"] == "RUNNING"]


def models() -> list[int]:
    """The pids of the processes that hold models."""
    return [pid for slot in "ab" for pid in replicas(f"model-probe-{slot}")]


def switches(head: Head) -> list[str]:
    """The switches of endpoints that are alive."""
    found = httpx.get(f"{head.dashboard}/api/v0/actors", headers=head.token, trust_env=False, timeout=30)
    actors = found.raise_for_status().json()["data"]["result"]["result"]
    return [one["name"] for one in actors if one["class_name"] == "Switch" and one["state"] == "ALIVE"]


def deploy(head: Head, config: dict[str, Any], file: Path) -> str:
    """`serve deploy`, until everything is as it says: nothing, or why it cannot be so."""
    file.write_text(yaml.safe_dump(config))
    done = head.run("serve", "deploy", "-a", head.dashboard, file)
    assert done.returncode == 0, done.stderr

    def settled() -> bool:
        found = head.applications()["penstock"]
        same = found["deployed_app_config"] == {**found["deployed_app_config"], **config["applications"][0]}
        return bool(same and found["status"] in ("RUNNING", "DEPLOY_FAILED"))

    wait_until(settled, 120)
    found = head.applications()["penstock"]
    return "" if found["status"] == "RUNNING" else str(found["message"])


def test_serve_deploy_answers_follows_the_registry_and_goes_on_without_its_keeper(
    store: Store, tmp_path: Path
) -> None:
    probe.publish(store, right=180)
    config: dict[str, Any] = yaml.safe_load(FILE.read_text())
    (port,) = free_ports(1)
    config["http_options"] |= {"host": "0.0.0.0", "port": port}
    url = f"http://127.0.0.1:{port}"
    with head(tmp_path, PENSTOCK_STORE=str(store.root)) as cluster:
        applications = f"{cluster.dashboard}/api/serve/applications/"
        assert httpx.put(applications, json=config, trust_env=False).status_code == 401
        refused = deploy(cluster, config, tmp_path / "serve.yaml")
        assert "http_options: host: 0.0.0.0 can be reached from other machines" in refused
        _, secret = access.add(store)
        assert deploy(cluster, config, tmp_path / "serve.yaml") == ""
        assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 401
        assert red(url, secret) == 200

        # the proxy has Penstock's door, as it has under `penstock serve`
        routes = httpx.get(f"{url}/-/routes", trust_env=False)
        assert routes.status_code == 404 and routes.headers["content-type"] == "application/problem+json"

        second = probe.publish(store, scale=0.5, right=181)
        registry.promote(store, "probe", second.version, "live")
        until_served(url, store, "probe", 2, "live", secret)
        wait_until(lambda: red(url, secret) == 100)

        before = models()
        (pid,) = keeper(cluster)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: red(url, secret) == 100 and keeper(cluster) not in ([], [pid]))
        config["applications"][0]["args"]["replicas"] = (
            2  # the keeper is replaced, and leaves the models alone
        )
        assert deploy(cluster, config, tmp_path / "serve.yaml") == ""
        wait_until(lambda: red(url, secret) == 100 and models() == before)
        registry.promote(store, "probe", 1, "live")
        wait_until(lambda: red(url, secret) == 200)
        wait_until(lambda: len(models()) == 3)

        assert len(switches(cluster)) == 1
        done = cluster.run("serve", "shutdown", "-y", "-a", cluster.dashboard)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: cluster.applications() == {} and models() == [] and switches(cluster) == [])
