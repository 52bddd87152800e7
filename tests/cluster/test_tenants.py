"""Two runs, a search and an endpoint share a cluster: none blocks another, and the queue is explained."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from penstock.experiment import runs
from penstock.store import Store
from tests.cluster.driven import Driven
from tests.cluster.nodes import nodes
from tests.command import penstock


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_runs_a_search_and_an_endpoint_share_four_cpus(
    store: Store, figures: Callable[[dict[str, Any]], None]
) -> None:
    import httpx

    assert penstock("train", "toy", "--workers", "1", "--promote", store=store.root).code == 0
    train = ["train", "paced", "data.items=1250", "train.batch=20", "pace.step_s=0.05"]  # 40 steps an epoch
    with ExitStack() as all_of_it:
        cluster = all_of_it.enter_context(nodes(2, 2))

        def start(*words: str | Path, name: str = "") -> Driven:
            return all_of_it.enter_context(closing(Driven(store.root, cluster.address, *words, name=name)))

        port = free_port()
        endpoint = start("serve", "toy", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        endpoint.wait("an endpoint", lambda: answers(httpx, url))
        began = time.time()
        # long enough to be there when the other one comes
        one = start(*train, "train.epochs=40", "--workers", "2", name="one")
        one.wait("its workers", one.attempts)
        two = start(*train, "train.epochs=10", "--workers", "2:3", "--seed", "1", name="two")
        two.wait("that it waits", lambda: state(store, "two") == "waiting")
        (row,) = [row for row in runs(store) if row["run"] == "two"]
        why = str(row["waits_for"])
        shown = penstock("runs", store=store.root).out
        search = start("tune", "toy", "--trials", "3", "--scheduler", "none", "train.epochs=1")
        made = [one.result(600), two.result(600)]
        searched = search.result(600)
        assert answers(httpx, url)
        found = {"seconds": time.time() - began, "trials": len(searched["trials"]), "why": why}
    figures(found)
    assert why.startswith("needs 2 CPUs, ") and "held by run one (2)" in why and "endpoint" in why
    assert f"two waits: {why}" in shown
    assert [result["steps"] for result in made] == [1600, 400]
    assert [row["state"] for row in searched["trials"]] == ["finished"] * 3
    assert {state(store, name) for name in ("one", "two")} == {"finished"}


def state(store: Store, name: str) -> str | None:
    return next((str(row["state"]) for row in runs(store) if row["run"] == name), None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def answers(http: Any, url: str) -> bool:
    try:
        return bool(http.get(f"{url}/healthz", timeout=5).status_code == 200)
    except http.HTTPError:
        return False
