"""Every workload's endpoint, and what nobody would send to it: none is answered 5xx, no process dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from penstock.serving.limits import Limits
from penstock.serving.server import Endpoint, serve
from penstock.store import Store
from tests import hostile, probe, untrained
from tests.cluster.serving import Watched

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]


@pytest.fixture(scope="module")
def endpoint(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    store = Store.open(tmp_path_factory.mktemp("everything"))
    for name in untrained.WORKLOADS:
        untrained.publish(store, name)
    probe.publish(store)
    with serve(store=store, port=0, limits=Limits(rate=1e6), block=False) as endpoint:
        yield endpoint


def test_twenty_thousand_that_nobody_would_send(endpoint: Endpoint, figures: Callable[..., None]) -> None:
    watched = Watched(endpoint)
    names = [*untrained.WORKLOADS, "probe"]
    began = time.monotonic()
    paths = [f"/v1/models/{name}/{verb}" for name in names for verb in ("predict", "feedback", "stream")]
    paths += [f"/v2/models/{name}/infer" for name in names] + ["/openai/v1/chat/completions"]
    statuses = hostile.of_every_kind(endpoint.url, paths, 12_000)
    statuses += hostile.by_the_document(endpoint.url, 400, strict=False)
    slowest = 0.0
    for bomb in hostile.bombs():
        model = {"audio/wav": "speech"}.get(bomb.kind, "pathology")
        start = time.monotonic()
        answer = httpx.post(
            f"{endpoint.url}/v1/models/{model}/predict",
            content=bomb.content,
            headers={"Content-Type": bomb.kind, **bomb.headers},
            trust_env=False,
            timeout=60,
        )
        slowest = max(slowest, time.monotonic() - start)
        statuses[answer.status_code] += 1
        assert answer.status_code == bomb.status, (bomb.name, answer.text)
    malformed = sum(count for status, count in statuses.items() if 400 <= status < 500)
    figures(
        {
            "requests": sum(statuses.values()),
            "malformed": malformed,
            "statuses": {str(status): count for status, count in sorted(statuses.items())},
            "slowest_bomb_ms": round(1000 * slowest),
            "memory_grown_mib": round(watched.grown_mib(), 1),
            "seconds": round(time.monotonic() - began),
        }
    )
    assert malformed >= 20_000 and max(statuses) < 500
    assert httpx.get(f"{endpoint.url}/healthz", trust_env=False, timeout=30).status_code == 200
