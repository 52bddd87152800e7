"""The built-in workloads behind one endpoint: every test item over HTTP says what the model says offline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from penstock.evaluation import evaluate
from penstock.evaluation.through import connect
from penstock.experiment import train
from penstock.registry import find as find_version
from penstock.registry import workload_of
from penstock.serving.server import serve
from penstock.store import Store

NAMES = ("chatbot", "detection", "gan", "go", "pathology", "recsys", "speech")


@dataclass(frozen=True)
class Served:
    store: Store
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Iterator[Served]:
    """The workloads, trained for one epoch on what they generate, in one endpoint."""
    store = Store.open(tmp_path_factory.mktemp("through"))
    for name in NAMES:
        train(name, preset="smoke", overrides=("train.epochs=1",), workers=1, store=store, live_first=True)
    with serve(store=store, port=0, block=False) as endpoint:
        yield Served(store, endpoint.url)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_served_is_what_was_evaluated(served: Served, name: str) -> None:
    offline = evaluate(name, store=served.store)
    through = evaluate(name, through=served.url, store=served.store)
    said = through["through"]
    assert said["requests"] == said["counter_rise"] == through["items"] == offline["items"] > 0
    assert said["largest_difference"] <= 1e-5
    for metric, found in offline["metrics"].items():
        if said["redrawn"]:  # pictures within one of 255 levels
            wanted = pytest.approx(found["value"], rel=1e-3, abs=1e-6, nan_ok=True)
        else:
            wanted = pytest.approx(found["value"], abs=1e-6, nan_ok=True)
        assert through["metrics"][metric]["value"] == wanted, metric


def test_other_clients_do_not_disturb_it_and_the_counter_rises_by_at_least_n(served: Served) -> None:
    """While one model is replayed, so is the other; and somebody else asks the same model."""
    version = find_version(served.store, "speech")
    workload = workload_of(version)
    example = workload.request.model_validate(workload.request.model_json_schema()["examples"][0])
    stop, asked = threading.Event(), [0]

    def ask() -> None:
        with connect(served.url, "speech", version.version, workload.answer) as endpoint:
            while not stop.is_set():
                endpoint.ask(example)
                asked[0] += 1

    with ThreadPoolExecutor(2) as pool:
        others = [
            pool.submit(ask),
            pool.submit(evaluate, "pathology", through=served.url, store=served.store),
        ]
        try:
            said = evaluate("speech", through=served.url, store=served.store)["through"]
        finally:
            stop.set()
        for other in others:
            other.result()  # raises what went wrong there
    assert asked[0] > 0
    assert said["counter_rise"] >= said["requests"]
