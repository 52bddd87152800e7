"""Versions in motion and replicas that die, over real HTTP under load: every answer is checked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

import httpx
import numpy as np
import pytest

import penstock
from penstock import registry
from penstock.benchmarks.load import Shot, summary
from penstock.errors import PenstockError
from penstock.registry import Version
from penstock.serving.following import until_served
from penstock.serving.limits import Limits
from penstock.serving.server import Endpoint, serve
from penstock.serving.versions.traffic import place as drawn
from penstock.store import Store
from tests import probe
from tests.cluster.serving import BODIES, Load, kill_one, kills, replicas, running, wait_until

LIMITS = Limits(batch=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("rollouts"))
    probe.publish(store, right=180)
    return store


@pytest.fixture(scope="module")
def endpoint(ray_session: None, place: Store) -> Iterator[Endpoint]:
    with serve(store=place, port=0, replicas=2, gateways=2, limits=LIMITS, block=False) as endpoint:
        yield endpoint


def scales(store: Store) -> dict[str, float]:
    return {
        version.reference: float(registry.load(store, version).weights["scale"])
        for version in registry.models(store, "probe")
    }


def served(endpoint: Endpoint) -> dict[str, float]:
    listed = httpx.get(endpoint.url + "/v1/models", trust_env=False).json()["models"]
    return {f"{one['name']}@{one['version']}": one["share"] for one in listed}


def app_of(endpoint: Endpoint) -> str:
    assert endpoint.rollouts is not None
    return endpoint.rollouts.traffic.ways[0].app


def url_of(endpoint: Endpoint) -> str:
    return f"{endpoint.url}/v1/models/probe/predict"


def overlap(shots: Sequence[Shot], old: str, new: str) -> float:
    """Seconds from the first answer of the new version to the last of the old one."""
    ended = [(shot.due + shot.seconds, shot.model) for shot in shots]
    return max(at for at, model in ended if model == old) - min(at for at, model in ended if model == new)


def test_a_replica_that_dies_takes_no_request_with_it(endpoint: Endpoint, place: Store) -> None:
    found = kills(url_of(endpoint), scales(place), lambda: (app_of(endpoint), "ModelReplica"), 2, 15.0)
    assert found["kills"] == 2 and found["failed"] == 0 and found["requests"] == 600, found


def test_an_input_that_kills_gets_two_replicas_and_no_third(endpoint: Endpoint, place: Store) -> None:
    wait_until(lambda: running(app_of(endpoint)) == 2)
    before = replicas(app_of(endpoint))
    asked = probe.Request(image=probe.png(), act="crash", note="two").model_dump_json(exclude_unset=True)
    head = {"Content-Type": "application/json"}
    with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=40) as client:
        answer = client.post("/v1/models/probe/predict", content=asked, headers=head)
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 60, answer.text
        wait_until(lambda: running(app_of(endpoint)) == 2 and len(replicas(app_of(endpoint))) == 2)
        after = replicas(app_of(endpoint))
        assert not set(before) & set(after)
        for _ in range(8):  # both gateways know it by now
            again = client.post("/v1/models/probe/predict", content=asked, headers=head)
            assert again.status_code == 503 and int(again.headers["Retry-After"]) > 60
        assert replicas(app_of(endpoint)) == after
        good = client.post("/v1/models/probe/predict", content=BODIES[0], headers=head)
        assert good.status_code == 200


def test_python_on_the_cluster_calls_a_model_by_serve_s_own_handle(endpoint: Endpoint) -> None:
    reply = penstock.handle("probe@live").predict.remote({"image": probe.png()}).result()
    assert json.loads(reply["answer"])["red"] == 200 and reply["model"] == "probe@1"
    with pytest.raises(PenstockError, match="no model 'nope' is served here"):
        penstock.handle("nope")


def test_a_gateway_that_dies_takes_none_from_a_client_that_asks_again(
    endpoint: Endpoint, place: Store
) -> None:
    draw = np.random.default_rng(1)
    with Load(url_of(endpoint), scales(place), 20, 10, again=4) as load:
        wait_until(lambda: running("penstock", "Gateway") == 2)
        time.sleep(1)
        kill_one("penstock", "Gateway", draw)
    found = summary(load.shots)
    assert found["failed"] == 0 and found["requests"] == 200, found


def test_a_candidate_gets_its_share_and_is_rolled_back_when_it_fails(
    endpoint: Endpoint, place: Store
) -> None:
    before = registry.aliases(place, "probe")["live"]
    new = probe.publish(place, scale=50.0, right=180)
    registry.promote(place, "probe", new.version, "candidate", 0.3)
    until_served(endpoint.url, place, "probe", new.version, "candidate")
    assert served(endpoint) == {f"probe@{before}": 0.7, new.reference: 0.3}
    head = {"Content-Type": "application/json"}
    ids = [f"request-{number}" for number in range(120)]
    with httpx.Client(base_url=endpoint.url, trust_env=False) as client:

        def ask(header: str, value: str) -> str:
            """The version that answers; `header`: the one whose value the draw goes by."""
            answer = client.post(url_of(endpoint), content=BODIES[0], headers=head | {header: value})
            return answer.headers["X-Model"]

        with Load(url_of(endpoint), scales(place), 20, 6) as load:
            answered = [ask("X-Request-Id", one) for one in ids]
        assert answered == [new.reference if drawn("probe", one) < 0.3 else f"probe@{before}" for one in ids]
        assert 30 < answered.count(new.reference) < 42  # the ids are these, so is the draw
        found = summary(load.shots)
        assert found["failed"] == 0 and set(found["models"]) == {f"probe@{before}", new.reference}, found
        assert len({ask("X-Client-Id", "me") for _ in range(4)}) == 1, "a client did not stay"
        body = probe.Request(image=probe.png(), act="raise").model_dump_json(exclude_unset=True)
        for _ in range(8):
            path = f"/v1/models/probe@{new.version}/predict"
            assert client.post(path, content=body, headers=head).status_code == 500
    wait_until(lambda: new.version in registry.standing(place, "probe").withdrawn)
    wait_until(lambda: served(endpoint) == {f"probe@{before}": 1.0})


def rolled_out(endpoint: Endpoint, store: Store, new: Version) -> list[Shot]:
    """What came of 20 requests a second while `new` took over."""
    with Load(url_of(endpoint), scales(store), 20, 120) as load:
        time.sleep(1)
        registry.promote(store, "probe", new.version)
        until_served(endpoint.url, store, "probe", new.version, "live")
        time.sleep(2)
        load.stop()
    return load.shots


def test_a_new_version_takes_over_under_load(endpoint: Endpoint, place: Store) -> None:
    before = registry.aliases(place, "probe")["live"]
    new = probe.publish(place, scale=2.0 + before, right=180)
    shots = rolled_out(endpoint, place, new)
    found = summary(shots)
    assert found["failed"] == 0, found
    assert set(found["models"]) == {f"probe@{before}", new.reference}
    late = overlap(shots, f"probe@{before}", new.reference)
    assert late < 1.0, "both versions answered for longer than the requests on their way took"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"scale": 0.0}, "a scale of zero"),
        ({"scale": -1.0}, "does not answer its own example"),
        ({"scale": 9.0, "right": 100}, "its accuracy is"),
        ({"scale": 9.0, "delay_s": 0.2}, "where the version before takes"),
    ],
    ids=["constructor raises", "example refused", "metric worse", "10 times slower"],
)
def test_a_bad_version_never_serves(
    endpoint: Endpoint, place: Store, bad: dict[str, float], why: str
) -> None:
    before = registry.aliases(place, "probe")["live"]
    version = probe.publish(place, **{"right": 180, **bad})  # type: ignore[arg-type]
    with Load(url_of(endpoint), scales(place), 20, 120) as load:
        registry.promote(place, "probe", version.version)
        wait_until(lambda: registry.aliases(place, "probe")["live"] == before)
        time.sleep(1)
        load.stop()
    found = summary(load.shots)
    assert found["failed"] == 0 and set(found["models"]) == {f"probe@{before}"}, found
    assert why in registry.standing(place, "probe").withdrawn[version.version]
    assert served(endpoint) == {f"probe@{before}": 1.0}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_roll_outs(endpoint: Endpoint, place: Store, figures: Callable[..., None]) -> None:
    shots: list[Shot] = []
    gaps = []
    for number in range(10):
        before = registry.aliases(place, "probe")["live"]
        new = probe.publish(place, scale=100.0 + number, right=180)
        made = rolled_out(endpoint, place, new)
        shots += made
        gaps.append(overlap(made, f"probe@{before}", new.reference))
    found = summary(shots)
    figures({"roll_outs": 10, "last_old_after_first_new_s": round(max(gaps), 3), **found})
    assert found["failed"] == 0 and len(found["models"]) == 11, found
    assert max(gaps) < 1.0
