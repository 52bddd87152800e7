"""Access keys over HTTP: who is let in where, how often, and that nothing of a key is ever said."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from penstock.client import Client, RequestFailed
from penstock.serving.limits import Limits
from penstock.serving.web import access
from penstock.serving.web.access import Keyring
from penstock.store import Store
from tests import probe
from tests.endpoints import application, running

PNG = {"content": probe.png(), "headers": {"Content-Type": "image/png"}}


@dataclass(frozen=True)
class Locked:
    url: str
    predict: str
    admin: str
    slow: str
    store: Store


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    store = Store.open(tmp_path_factory.mktemp("keys"))
    predict, admin, slow = (
        access.add(store, *more)[1] for more in (("predict",), ("admin",), ("predict", "", 1))
    )
    app, _ = application(Limits(), Keyring(access.path_of(store)))
    with running(app) as url:
        yield Locked(url, predict, admin, slow, store)


def ask(locked: Locked, method: str, path: str, secret: str | None) -> httpx.Response:
    head = {"Authorization": f"Bearer {secret}"} if secret else {}
    if method == "POST":
        head["Content-Type"] = "image/png"
    content = probe.png() if method == "POST" else None
    return httpx.request(method, locked.url + path, headers=head, content=content, trust_env=False)


@pytest.mark.parametrize("path", ["/healthz", "/v2/health/live", "/v2/health/ready", "/", "/static/main.js"])
def test_what_is_open_to_everybody(locked: Locked, path: str) -> None:
    assert ask(locked, "GET", path, None).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/probe"),
        ("GET", "/v1/models/nope"),
        ("POST", "/v1/models/probe/predict"),
        ("POST", "/v1/models/nope/predict"),
        ("POST", "/v1/models/talk/stream"),
        ("POST", "/v1/models/probe/feedback"),
        ("POST", "/openai/v1/chat/completions"),
        ("GET", "/openai/v1/models"),
        ("GET", "/v2/models/probe"),
        ("POST", "/v2/models/probe/infer"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/metrics"),
        ("GET", "/no/such/path"),
    ],
)
def test_everything_else_asks_for_a_key_and_tells_nobody_what_there_is(
    locked: Locked, method: str, path: str
) -> None:
    answers = [ask(locked, method, path, secret) for secret in (None, "pk_wrong", locked.predict[:-1], "")]
    for answer in answers:
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_scopes(locked: Locked) -> None:
    assert ask(locked, "POST", "/v1/models/probe/predict", locked.predict).status_code == 200
    refused = ask(locked, "GET", "/metrics", locked.predict)
    assert refused.status_code == 403 and "needs admin" in refused.json()["detail"]
    assert ask(locked, "GET", "/metrics", locked.admin).status_code == 200
    assert ask(locked, "POST", "/v1/models/probe/predict", locked.admin).status_code == 200


def test_a_key_has_its_own_rate(locked: Locked) -> None:
    answers = [ask(locked, "POST", "/v1/models/probe/predict", locked.slow) for _ in range(4)]
    assert [answer.status_code for answer in answers].count(429) >= 1
    late = next(answer for answer in answers if answer.status_code == 429)
    assert late.headers["Retry-After"] == "1" and late.json()["type"] == "/problems/rate"
    assert ask(locked, "POST", "/v1/models/probe/predict", locked.predict).status_code == 200


def test_a_socket_without_a_key_does_not_open(locked: Locked) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    place = locked.url.replace("http", "ws") + "/v1/models/probe/frames"
    with pytest.raises(InvalidStatus, match="403"):
        connect(place, proxy=None)
    with connect(
        place, additional_headers={"Authorization": f"Bearer {locked.predict}"}, proxy=None
    ) as socket:
        socket.send(probe.png())
        assert '"red":200.0' in str(socket.recv(timeout=10))


def test_the_client_shows_its_key(locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(locked.url, key=locked.predict) as client:
        assert client.predict("probe", probe.png()).red == 200.0
    with Client(locked.url) as client, pytest.raises(RequestFailed, match="401"):
        client.models()
    monkeypatch.setenv("PENSTOCK_KEY", locked.predict)
    with Client(locked.url) as client:
        assert client.models()[0]["name"] == "probe"


def test_a_key_is_in_no_log_and_no_answer(locked: Locked, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("penstock.access").propagate = True
    canary = "pk_canary-5d1e8b"
    with caplog.at_level("INFO"):
        answers = [
            ask(locked, "POST", "/v1/models/probe/predict", canary),
            ask(locked, "POST", "/v1/models/probe/predict", locked.predict),
            ask(locked, "GET", "/metrics", locked.predict),
        ]
    text = caplog.text + "".join(answer.text + str(answer.headers) for answer in answers)
    assert "probe@1" in caplog.text, "nothing was logged"
    assert canary not in text and locked.predict not in text


def test_a_revoked_key_is_out_within_a_second(locked: Locked) -> None:
    import time

    key, secret = access.add(locked.store)
    time.sleep(0.6)
    assert ask(locked, "GET", "/v1/models", secret).status_code == 200
    access.revoke(locked.store, key.id)
    time.sleep(0.6)
    assert ask(locked, "GET", "/v1/models", secret).status_code == 401
    assert Path(access.path_of(locked.store)).exists()
