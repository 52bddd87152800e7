"""The endpoint's application without Ray: errors are problems, and say nothing they should not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from penstock.serving.body import parse_json, sniff
from penstock.serving.calls import Reply, Unavailable
from penstock.serving.front import Front
from penstock.serving.limits import HEAD_BYTES, URL_BYTES, Limits
from penstock.serving.on_ray.batching import Batcher
from penstock.serving.problems import Problem, excerpt, invalid, pointer, shorten
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Traffic, Way
from penstock.serving.web.door import Door
from penstock.serving.web.routes import create_app
from penstock.workload import Model, Schema
from tests import probe

PREDICT = "/v1/models/probe/predict"
SMALL = Limits(queue=2, batch=2, batch_wait_s=0)


class InProcess:
    """The probe's own predictor, batched, in this process."""

    def __init__(self) -> None:
        import torch

        self.failing: type[Exception] | None = None
        model: Any = Model(
            "probe", 1, None, Schema(), {"scale": torch.tensor(1.0), "delay_s": torch.tensor(0.0)}
        )
        self.batcher = Batcher(probe.Predictor(model, "cpu"), SMALL)
        self.gate: asyncio.Event | None = None

    async def call(self, app: str, values: Mapping[str, Any], alone: bool = False) -> Reply:
        if self.failing:
            raise self.failing("secret /etc/passwd")
        if self.gate:
            await self.gate.wait()
        return await self.batcher.ask(probe.Request.model_validate(values))

    async def ready(self, app: str) -> bool:
        return self.failing is None


class Client:
    """Requests to the application, without a socket."""

    def __init__(self) -> None:
        self.models = InProcess()
        card = {"workload": "probe", "reference": "tests.probe:workload", "metrics": {}}
        ways = (Way("model-probe-a", Served("probe", 1, ("live",), card)),)
        self.app = create_app(Front(lambda: Traffic(1, ways), self.models, SMALL))

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def play() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(play())


@pytest.fixture
def client() -> Iterator[Client]:
    yield Client()


def check(answer: httpx.Response, status: int) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert answer.status_code == status == document["status"], answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert set(document) == {"type", "title", "status", "detail", "instance", "errors"}
    for secret in ("Traceback", "Error", "/etc", ".py", "hunter2"):
        assert secret not in answer.text
    return document


def test_a_picture_is_answered(client: Client) -> None:
    answer = client.send("POST", PREDICT, content=probe.png(), headers={"content-type": "image/png"})
    assert answer.status_code == 200 and answer.json()["red"] == 200
    assert answer.headers["x-model"] == "probe@1"


@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        ("image/png", "", "image/png"),
        ("image/png;q=1, */*;q=0.1", "", "image/png"),
        ("application/json, image/png", "", "application/json"),
        ("image/png", "?inverted=false", "application/problem+json"),
        ("*/*", "?inverted=true", "application/json"),
    ],
)
def test_who_accepts_a_picture_first_has_asked_for_one(
    client: Client, accept: str, query: str, kind: str
) -> None:
    headers = {"content-type": "image/png", "accept": accept}
    answer = client.send("POST", PREDICT + query, content=probe.png(), headers=headers)
    assert answer.headers["content-type"] == kind
    assert answer.status_code == (406 if "problem" in kind else 200)
    if kind == "application/json":
        assert bool(answer.json().get("negative")) == ("true" in query)


def test_a_fault_in_the_predictor_is_told_to_the_log_only(client: Client, caplog: Any) -> None:
    body = {**probe.Request(image=probe.png(), act="raise").model_dump(mode="json")}
    with caplog.at_level("ERROR", "penstock.access"):
        check(client.send("POST", PREDICT, json=body), 500)
    assert "hunter2" in caplog.text


def test_a_fault_in_the_gateway_is_told_to_the_log_only(client: Client, caplog: Any) -> None:
    client.models.failing = ZeroDivisionError
    with caplog.at_level("ERROR", "penstock.access"):
        picture = {"content": probe.png(), "headers": {"content-type": "image/png"}}
        check(client.send("POST", PREDICT, **picture), 500)
    assert "ZeroDivisionError" in caplog.text


def test_a_model_that_restarts_is_named_and_the_client_told_to_come_again(client: Client) -> None:
    client.models.failing = Unavailable
    picture = {"content": probe.png(), "headers": {"content-type": "image/png"}}
    answer = client.send("POST", PREDICT, **picture)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    health = client.send("GET", "/healthz")
    assert "probe@1" in check(health, 503)["detail"]


@pytest.mark.parametrize("given", ["a", "A-9", "x" * 64])
def test_a_request_id_comes_back(client: Client, given: str) -> None:
    assert client.send("GET", "/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "../etc", "<script>", "é"])
def test_any_other_request_id_is_replaced(client: Client, given: str) -> None:
    back = client.send("GET", "/healthz", headers={"X-Request-Id": given.encode()}).headers["x-request-id"]
    assert back != given and re.fullmatch(r"[A-Za-z0-9-]{1,64}", back)


def test_long_urls_and_large_headers_are_refused(client: Client) -> None:
    check(client.send("GET", "/healthz?" + "a" * URL_BYTES), 414)
    check(client.send("GET", "/healthz", headers={"X-Large": "a" * HEAD_BYTES}), 431)


def test_every_request_is_logged_as_json_without_what_it_held(client: Client, caplog: Any) -> None:
    with caplog.at_level("INFO", "penstock.access"):
        client.send("GET", "/v1/models/probe?key=CANARY", headers={"Authorization": "Bearer CANARY"})
        client.send("POST", "/v1/models/CANARY/predict", json={"note": "CANARY"})
    lines = [json.loads(record.message) for record in caplog.records]
    assert [line["status"] for line in lines] == [200, 404]
    assert [line["route"] for line in lines] == ["/v1/models/{name}", "/v1/models/{name}/predict"]
    assert "CANARY" not in caplog.text


def test_names_that_strangers_make_up_are_no_labels_of_the_counter(client: Client) -> None:
    client.send("POST", "/v1/models/made-up/predict", json={})
    client.send("POST", PREDICT, content=probe.png(), headers={"content-type": "image/png"})
    text = client.send("GET", "/metrics").text
    assert 'penstock_requests_total{model="-",status="404",version="-"} 1.0' in text
    assert 'penstock_requests_total{model="probe",status="200",version="1"} 1.0' in text
    assert "made-up" not in text


def test_before_there_is_a_gateway_the_proxy_says_that_the_endpoint_starts(client: Client) -> None:
    check(client.send("GET", "/v1/nothing"), 404)  # said by the gateway: it stays
    client.app = Door(PlainTextResponse("Path '/v1/models' not found.", 404))
    answer = client.send("GET", "/v1/models")
    assert check(answer, 503)["detail"] == "the endpoint is starting; try again"
    assert answer.headers["retry-after"] == "1"


# ---------------------------------------------------------------- the small parts


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"\xff{}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b"\xef\xbb\xbf{}",
        b"[" * 33 + b"]" * 33,
        b'{"a":' * 33 + b"1" + b"}" * 33,
        b"[" * 1_000_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda raw: raw[:24].decode("latin-1"),
)
def test_json_that_is_not_strict_is_refused(raw: bytes) -> None:
    with pytest.raises(Problem) as refusal:
        parse_json(raw, 32)
    assert refusal.value.status == 400 and len(refusal.value.detail) < 120


def test_json_may_be_nested_as_deep_as_is_said() -> None:
    deep: Any = parse_json(b"[" * 32 + b'"\xc3\xa9"' + b"]" * 32, 32)
    for _ in range(32):
        (deep,) = deep
    assert deep == "é"


def test_a_problem_has_the_fields_of_rfc_9457() -> None:
    document = json.loads(Problem(422, "no", [("/a b/é~1", "wrong")]).body("id-1"))
    assert document["type"] == "/problems/invalid-content" and document["status"] == 422
    assert document["errors"] == [{"pointer": "#/a%20b/%C3%A9~1", "detail": "wrong"}]


def test_pointers_escape_and_shorten_keys_that_clients_make_up() -> None:
    assert pointer(["a/b", 3, "c~d"]) == "/a~1b/3/c~0d"
    assert len(pointer(["k" * 500])) <= 65


def test_no_more_than_64_characters_of_what_was_sent_come_back() -> None:
    assert len(excerpt("a" * 65)) == 64 and excerpt("a\nb\x00") == "a?b?"
    assert "a" * 65 not in shorten(f"you sent {'a' * 5_000}, why?")
    try:
        probe.Request.model_validate({"image": 5, "gain": "x" * 500, "act": "y" * 500})
    except ValueError as error:
        text = invalid(error).body("id").decode()  # type: ignore[arg-type]
    assert "x" * 65 not in text and "y" * 65 not in text
    assert {one["pointer"] for one in json.loads(text)["errors"]} == {"#/image", "#/gain", "#/act"}


def test_media_are_told_apart_by_their_first_bytes() -> None:
    assert sniff(probe.png()) == "image/png"
    assert sniff(probe.png(kind="JPEG")) == "image/jpeg"
    assert sniff(b"RIFF\0\0\0\0WAVEfmt ") == "audio/wav"
    assert sniff(probe.png(kind="GIF")) == sniff(b"") == ""
