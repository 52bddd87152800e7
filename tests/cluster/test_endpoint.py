"""The endpoint over real HTTP: every row of its table of errors, and what it survives."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psutil
import pytest
from openapi_spec_validator import validate as validate_openapi

from penstock.errors import PenstockError
from penstock.serving.limits import BODY_BYTES, HEAD_BYTES, URL_BYTES, Limits
from penstock.serving.server import Endpoint, serve
from penstock.store import Store
from tests import probe

LIMITS = Limits(body_s=1.0, deadline_s=6.0, queue=6, batch=4)
PREDICT = "/v1/models/probe/predict"
CANARY = "canary-7f3a91"
PNG = probe.png()
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def endpoint(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    store = Store.open(tmp_path_factory.mktemp("endpoint"))
    probe.publish(store)
    probe.publish(store, "other", 2.0)
    with serve(store=store, port=0, limits=LIMITS, block=False) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=64)
    with httpx.Client(base_url=endpoint.url, timeout=30, limits=limits, trust_env=False) as client:
        yield client


def body(**values: Any) -> bytes:
    """A request of the probe as JSON."""
    return (
        probe.Request(image=values.pop("image", PNG), **values).model_dump_json(exclude_unset=True).encode()
    )


def ask(client: httpx.Client, **values: Any) -> httpx.Response:
    return client.post(PREDICT, content=body(**values), headers={"Content-Type": "application/json"})


def check(answer: httpx.Response, status: int) -> dict[str, Any]:
    """What holds for every error; the problem it is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "errors"}
    assert problem["status"] == status and problem["type"].startswith("/problems/")
    assert len(answer.headers.get_list("X-Request-Id")) == 1
    assert problem["instance"] == f"urn:request:{answer.headers['X-Request-Id']}"
    for leak in ("Traceback", "Error", "Exception", ".py", "/root", "/tmp", "site-packages", "hunter2"):
        assert leak not in answer.text, leak
    assert not re.search(r"([A-Za-z])\1{64}", answer.text), "more than 64 characters of the input came back"
    return problem


# ---------------------------------------------------------------- the table of errors


@dataclass(frozen=True)
class Row:
    """One case: what is sent, the status, and what the answer says."""

    case: str
    status: int
    content: bytes = b""
    kind: str | None = "application/json"
    path: str = PREDICT
    method: str = "POST"
    says: str = ""
    at: str | None = None  # the pointer of the first error
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)  # headers of the answer


def encoded(raw: bytes, **more: Any) -> bytes:
    return json.dumps({"image": base64.b64encode(raw).decode(), **more}).encode()


JPEG = probe.png(64, kind="JPEG")
LONG = "q" * 500
TABLE = [
    Row("broken JSON", 400, b'{"image": ', says="line 1, column"),
    Row("no body", 400, says="empty"),
    Row("not UTF-8", 400, b'{"image": "\xff"}', says="UTF-8"),
    Row("bad base64", 400, b'{"image": "%%%"}', says="base64", at="#/image"),
    Row("base64 of the wrong length", 400, b'{"image": "abcde"}', says="base64", at="#/image"),
    Row("NaN", 400, b'{"image": "", "gain": NaN}', says="NaN"),
    Row("Infinity", 400, b'{"image": "", "gain": Infinity}'),
    Row("a number that is too large", 400, b'{"image": "", "gain": 1e999}'),
    Row("too many digits", 400, b'{"gain": ' + b"9" * 5000 + b"}"),
    Row("nested too deep", 400, b'{"note": ' + b"[" * 33 + b"]" * 33 + b"}", says="deeper than 32"),
    Row("nested past recursion", 400, b"[" * 50_000, says="deeper than 32"),
    Row("a key twice", 400, b'{"image": "", "image": ""}', says="twice"),
    Row("half a surrogate", 400, b'{"note": "\\ud800"}'),
    Row("a query word twice", 400, PNG, "image/png", f"{PREDICT}?gain=1&gain=2", says="twice"),
    Row("unknown model", 404, body(), path="/v1/models/nope/predict", says="served: other@1, probe@1"),
    Row("unknown version", 404, body(), path="/v1/models/probe@9/predict", says="probe@1"),
    Row("unknown alias", 404, body(), path="/v1/models/probe@candidate/predict"),
    Row("unknown model, no body", 404, path="/v1/models/nope/predict"),
    Row("unknown model, described", 404, path="/v1/models/nope", method="GET"),
    Row("traversal", 404, body(), path="/v1/models/..%2f..%2fetc%2fpasswd/predict"),
    Row("traversal with dots", 404, body(), path="/v1/models/%2e%2e/predict"),
    Row("zero byte", 404, body(), path="/v1/models/%00/predict"),
    Row("a long name", 404, body(), path=f"/v1/models/{'n' * 300}/predict"),
    Row("markup as name", 404, body(), path="/v1/models/%3Cscript%3E/predict"),
    Row("no such path", 404, path="/v1/nothing", method="GET"),
    Row("Serve's own list", 404, path="/-/routes", method="GET"),
    Row("wrong method", 405, method="GET", answers={"Allow": "POST"}),
    Row("wrong method on the list", 405, path="/v1/models", method="DELETE", answers={"Allow": "GET"}),
    Row("wrong method, another", 405, method="PUT", answers={"Allow": "POST"}),
    Row(
        "preflight",
        405,
        method="OPTIONS",
        headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"},
    ),
    Row("only a picture will do", 406, body(inverted=False), headers={"Accept": "image/png"}),
    Row("a text too long", 413, body(note="n" * 70_000), says="65536 bytes", answers={"Connection": "close"}),
    Row("too many values", 413, b"[" + b"1," * 70_000 + b"1]", says="values"),
    Row("a picture too large", 413, PNG + bytes(8 * MIB), "image/png", says="8388608 bytes"),
    Row("JSON too large", 413, b'{"image": "' + b"A" * 12 * MIB + b'"}', says="bytes"),
    Row("a long URL", 414, path="/healthz?" + "u" * URL_BYTES, method="GET"),
    Row(
        "no media type",
        415,
        PNG,
        None,
        says="missing",
        answers={"Accept": "application/json, image/jpeg, image/png"},
    ),
    Row("a form", 415, b"a=b", "application/x-www-form-urlencoded"),
    Row("multipart", 415, b"--a\r\n--a--", "multipart/form-data; boundary=a"),
    Row("a media type of 500 characters", 415, PNG, "image/" + "x" * 500),
    Row("a GIF, said to be one", 415, probe.png(kind="GIF"), "image/gif"),
    Row("a GIF, said to be PNG", 415, probe.png(kind="GIF"), "image/png", says="not image/png"),
    Row("a JPEG, said to be PNG", 415, JPEG, "image/png"),
    Row("JSON, said to be PNG", 415, body(), "image/png"),
    Row("compressed", 415, b"\x1f\x8b" + bytes(50), headers={"Content-Encoding": "gzip"}, says="Encoding"),
    Row("a list", 422, b"[1]", says="object"),
    Row("a string", 422, b'"a"', says="object"),
    Row("a field is missing", 422, b"{}", says="/image", at="#/image"),
    Row("a field of the wrong type", 422, encoded(PNG, gain="much"), says="number", at="#/gain"),
    Row("media as a number", 422, b'{"image": 5}', at="#/image"),
    Row("out of range", 422, encoded(PNG, gain=9), says="less than or equal to 8", at="#/gain"),
    Row("no such choice", 422, encoded(PNG, act=LONG), at="#/act"),
    Row("out of range in the query", 422, PNG, "image/png", f"{PREDICT}?gain=99", at="#/gain"),
    Row("truncated JPEG", 422, encoded(JPEG[: len(JPEG) // 2]), says="picture", at="#/image"),
    Row("truncated JPEG, raw", 422, JPEG[: len(JPEG) // 2], "image/jpeg", at="#/image"),
    Row("a GIF in JSON", 422, encoded(probe.png(kind="GIF")), at="#/image"),
    Row("no bytes in JSON", 422, encoded(b""), at="#/image"),
    Row("a refusal that repeats its input", 422, encoded(PNG, act="echo", note="z" * 500), at="#/note"),
    Row("headers too large", 431, path="/healthz", method="GET", headers={"X-Large": "h" * HEAD_BYTES}),
    Row("the predictor fails", 500, encoded(PNG, act="raise"), says="its id finds it in the log"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.case.replace(" ", "-"))
def test_the_table_of_errors(client: httpx.Client, row: Row) -> None:
    headers = {"Authorization": f"Bearer {CANARY}", **row.headers}
    if row.kind and row.method == "POST":
        headers["Content-Type"] = row.kind
    answer = client.request(row.method, row.path, content=row.content, headers=headers)
    problem = check(answer, row.status)
    assert row.says in problem["detail"], problem["detail"]
    if row.at is not None:
        assert problem["errors"][0]["pointer"] == row.at
    for name, value in row.answers.items():
        assert answer.headers[name] == value
    if row.status in (406, 413, 415, 422, 500):
        assert answer.headers["X-Model"] == "probe@1"


# ---------------------------------------------------------------- what is sent slowly, or not at all


class Wire:
    """One connection, byte by byte."""

    def __init__(self, endpoint: Endpoint) -> None:
        host, port = endpoint.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)

    def head(self, *lines: str) -> Wire:
        head = [f"POST {PREDICT} HTTP/1.1", "Host: x", "Content-Type: image/png", *lines, "", ""]
        self.socket.sendall("\r\n".join(head).encode("latin-1"))
        return self

    def chunk(self, data: bytes) -> None:
        self.socket.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def answer(self) -> httpx.Response:
        response = HTTPResponse(self.socket)
        response.begin()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())

    def closed(self) -> bool:
        return self.socket.recv(1) == b""


def test_a_slow_body_is_cut(endpoint: Endpoint) -> None:
    began = time.monotonic()
    wire = Wire(endpoint).head("Content-Length: 1000")
    wire.socket.sendall(PNG[:10])
    answer = wire.answer()
    assert time.monotonic() - began >= LIMITS.body_s
    assert "1 s" in check(answer, 408)["detail"]
    assert answer.headers["Connection"] == "close" and wire.closed()


def test_a_body_without_a_length_is_counted_as_it_comes(endpoint: Endpoint) -> None:
    wire = Wire(endpoint).head("Transfer-Encoding: chunked")
    for _ in range(9):
        wire.chunk(PNG + bytes(MIB))
    answer = wire.answer()
    check(answer, 413)
    assert answer.headers["Connection"] == "close"


def test_a_length_that_is_too_large_is_believed_at_once(endpoint: Endpoint) -> None:
    wire = Wire(endpoint).head(f"Content-Length: {10**12}")
    check(wire.answer(), 413)  # had it waited for the body, it would say 408


def test_a_length_that_is_too_small_is_no_5xx(endpoint: Endpoint) -> None:
    wire = Wire(endpoint).head("Content-Length: 20")
    wire.socket.sendall(PNG)
    assert 400 <= wire.answer().status_code < 500


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\xfe\r\n\r\n",
        b"GET /healthz?a=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\n",
        b"\x16\x03\x01\x02\x00 not HTTP at all\r\n\r\n",
    ],
    ids=["id", "query", "path", "negative", "no number", "TLS"],
)
def test_bytes_that_are_hardly_http_are_no_5xx(endpoint: Endpoint, head: bytes) -> None:
    wire = Wire(endpoint)
    wire.socket.sendall(head)
    assert wire.answer().status_code < 500


def test_an_upload_that_is_refused_does_not_fill_the_memory(endpoint: Endpoint) -> None:
    serving = {
        " ".join(p.info["cmdline"]).strip(): p for p in psutil.process_iter(["cmdline"]) if is_front(p)
    }
    assert len(serving) == 2
    before: dict[str, int] = {}
    highest: dict[str, int] = {}
    for upload in range(4):
        if upload == 1:  # the first has filled the allocator's pools, once and for all
            before = {name: process.memory_info().rss for name, process in serving.items()}
            highest = dict(before)
        wire = Wire(endpoint).head("Transfer-Encoding: chunked")
        for _ in range(200):
            wire.chunk(PNG + bytes(MIB))
            highest = {name: max(most, serving[name].memory_info().rss) for name, most in highest.items()}
        check(wire.answer(), 413)
    for name, most in highest.items():
        grown = (most - before[name]) / MIB
        # of 800 MiB; Serve's proxy queues up to BODY_BYTES, pickles them, and the gateway unpickles them
        assert grown < 4 * BODY_BYTES / MIB, f"{name} grew by {grown:.0f} MiB"


def is_front(process: psutil.Process) -> bool:
    name = " ".join(process.info["cmdline"] or [])
    return name.startswith(("ray::ProxyActor", "ray::ServeReplica:penstock"))


# ---------------------------------------------------------------- answers


def test_both_models_answer_and_say_who_they_are(client: httpx.Client) -> None:
    for name, red in (("probe", 200), ("other", 400), ("probe@live", 200), ("probe@1", 200)):
        answer = client.post(
            f"/v1/models/{name}/predict", content=PNG, headers={"Content-Type": "image/png; q=1"}
        )
        assert answer.json()["red"] == red
        assert answer.headers["X-Model"] == f"{name.partition('@')[0]}@1"
        assert len(answer.headers["X-Request-Id"]) >= 16


def test_json_raw_bytes_and_the_query_say_the_same(client: httpx.Client) -> None:
    raw = client.post(f"{PREDICT}?gain=2", content=JPEG, headers={"Content-Type": "image/jpg"})
    assert raw.json()["red"] == ask(client, image=JPEG, gain=2.0).json()["red"]


def test_a_picture_in_the_answer_can_be_had_as_a_picture(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Accept": "image/png, */*;q=0.1"}
    answer = client.post(PREDICT, content=body(), headers=headers)
    assert answer.headers["Content-Type"] == "image/png" and answer.content[:4] == b"\x89PNG"
    raw = client.post(PREDICT, content=JPEG, headers={**headers, "Content-Type": "image/jpeg"})
    assert raw.headers["Content-Type"] == "image/png"
    assert client.post(PREDICT, content=body(inverted=False), headers=headers).json()["negative"] is None


def test_request_ids_come_back_and_serve_obeys_no_stranger_s_headers(client: httpx.Client) -> None:
    mine = {"X-Request-Id": "mine-1", "X-Request-Timeout-Seconds": "0.000001"}
    assert client.get("/healthz", headers=mine).headers.get_list("X-Request-Id") == ["mine-1"]
    (other,) = client.get("/healthz", headers={"X-Request-Id": "no good"}).headers.get_list("X-Request-Id")
    assert re.fullmatch(r"[A-Za-z0-9-]{16,64}", other)


def test_the_list_and_the_cards(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert list(models) == ["other", "probe"]
    assert models["probe"]["alias"] == "live" and models["probe"]["version"] == 1
    assert models["probe"]["goal"] == {
        "metric": "accuracy",
        "mode": "max",
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
    }
    detail = client.get("/v1/models/probe@live").json()
    assert detail["card"]["weights_sha256"] and detail["media_types"] == ["image/jpeg", "image/png"]
    jsonschema.validate(detail["example"]["request"], detail["request"])
    answer = client.post(PREDICT, json=detail["example"]["request"])
    jsonschema.validate(answer.json(), detail["answer"])
    assert "/" not in json.dumps(detail["card"]["files"]), "paths of this machine"


def test_the_openapi_document_is_valid_and_its_examples_work(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    validate_openapi(document)
    tried = 0
    for path, methods in document["paths"].items():
        if "get" in methods:
            assert client.get(path).status_code == 200, path
            continue
        content = methods["post"]["requestBody"]["content"]["application/json"]
        for example in content.get("examples", {}).values():  # feedback needs an answer to be about
            answer = client.post(path, json=example["value"])
            assert answer.status_code == 200, answer.text
            good = methods["post"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), {**good, "components": document["components"]})
            tried += 1
    assert tried == 2


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html") and "curl" in page.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text) and "<script" not in page.text


# ---------------------------------------------------------------- many at a time


class Gate:
    """A file that holds the predictor while it exists."""

    def __init__(self, client: httpx.Client, folder: Path) -> None:
        self.client, self.path = client, folder / "gate"
        self.pool = ThreadPoolExecutor(32)
        self.path.touch()

    def wait(self) -> Future[httpx.Response]:
        """A request that stays with the predictor until `open`."""
        return self.pool.submit(ask, self.client, act="wait", gate=str(self.path))

    def ask(self, **values: Any) -> Future[httpx.Response]:
        return self.pool.submit(ask, self.client, **values)

    def open(self) -> None:
        self.path.unlink(missing_ok=True)


@pytest.fixture
def gate(client: httpx.Client, tmp_path: Path) -> Iterator[Gate]:
    until(lambda: in_flight(client) == 0)
    gate = Gate(client, tmp_path)
    yield gate
    gate.open()
    gate.pool.shutdown()


def in_flight(client: httpx.Client) -> int:
    found = re.search(
        r'penstock_requests_in_flight\{model="probe",version="1"\} (\d+)', client.get("/metrics").text
    )
    return int(found[1]) if found else 0


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def test_what_waits_is_answered_together_and_one_bad_request_spoils_nothing(
    client: httpx.Client, gate: Gate
) -> None:
    first = gate.wait()
    until(lambda: in_flight(client) == 1)
    good = [gate.ask(gain=n) for n in (1, 2)]
    bad = gate.ask(image=JPEG[:200])
    worse = gate.ask(act="raise")
    until(lambda: in_flight(client) == 5)
    gate.open()
    assert first.result().json()["batch"] == 1
    assert [one.result().json()["red"] for one in good] == [200, 400]
    check(bad.result(), 422)
    check(worse.result(), 500)


def test_batches_fill(client: httpx.Client, gate: Gate) -> None:
    first = gate.wait()
    until(lambda: in_flight(client) == 1)
    second = gate.ask()  # waits in the replica, which so never stands idle
    until(lambda: in_flight(client) == 2)
    rest = [gate.ask() for _ in range(LIMITS.batch)]  # wait in the gateway, and travel together
    until(lambda: in_flight(client) == 2 + LIMITS.batch)
    gate.open()
    assert first.result().json()["batch"] == 1 and second.result().json()["batch"] == 1
    assert [one.result().json()["batch"] for one in rest] == [LIMITS.batch] * LIMITS.batch


def test_a_full_queue_turns_away_at_once_and_says_when_to_come_again(
    client: httpx.Client, gate: Gate
) -> None:
    waiting = [gate.wait() for _ in range(LIMITS.queue + LIMITS.batch)]
    until(lambda: in_flight(client) == len(waiting))
    turned_away = ask(client)
    check(turned_away, 503)  # had it waited, it would be 504
    assert turned_away.headers["Retry-After"] == "1" and turned_away.headers["X-Model"] == "probe@1"
    other = client.post("/v1/models/other/predict", content=PNG, headers={"Content-Type": "image/png"})
    assert other.status_code == 200, "another model is not concerned"
    assert client.get("/healthz").status_code == 200, "busy is not ill"
    gate.open()
    assert {one.result().status_code for one in waiting} == {200}


def test_a_deadline_is_kept_and_frees_the_place(client: httpx.Client, gate: Gate) -> None:
    began = time.monotonic()
    late = gate.wait().result()
    assert time.monotonic() - began >= LIMITS.deadline_s
    assert "6 s" in check(late, 504)["detail"]
    assert in_flight(client) == 0
    gate.open()
    assert ask(client).status_code == 200


def test_clients_that_hang_up_leave_nothing_behind(
    endpoint: Endpoint, client: httpx.Client, gate: Gate
) -> None:
    first = gate.wait()
    until(lambda: in_flight(client) == 1)
    for _ in range(4):
        wires = [Wire(endpoint).head(f"Content-Length: {len(PNG)}") for _ in range(6)]
        for wire in wires:
            wire.socket.sendall(PNG)
        until(lambda: in_flight(client) == 7)
        for wire in wires:
            wire.socket.close()
        until(lambda: in_flight(client) == 1)
    half = Wire(endpoint).head("Content-Length: 1000")
    half.socket.sendall(PNG)
    half.socket.close()
    gate.open()
    assert first.result().status_code == 200
    answers = [gate.ask() for _ in range(8)]
    assert {one.result().status_code for one in answers} == {200}
    until(lambda: in_flight(client) == 0)
    assert 'penstock_requests_total{model="probe",status="499",version="1"}' in client.get("/metrics").text


# ---------------------------------------------------------------- a replica dies (these come last)


def test_a_replica_that_dies_hangs_nobody_and_comes_back(client: httpx.Client, gate: Gate) -> None:
    process = ask(client).json()["process"]
    first = gate.wait()
    until(lambda: in_flight(client) == 1)
    os.kill(process, signal.SIGKILL)
    gate.open()
    answer = first.result()  # the client's own patience would raise
    if answer.status_code == 200:  # its second chance came in time
        assert answer.json()["process"] != process
    else:
        check(answer, 504 if answer.status_code == 504 else 503)

    seen: set[str] = set()

    def healthy() -> bool:
        answer = client.get("/healthz")
        if answer.status_code != 200:
            seen.add(check(answer, 503)["detail"])
        return answer.status_code == 200 and ask(client).status_code == 200

    until(healthy, 60)
    assert ask(client).json()["process"] != process
    assert all("probe@1" in detail and "other@1" not in detail for detail in seen)


def test_no_log_holds_what_clients_sent(client: httpx.Client) -> None:
    import ray

    headers = {"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "Content-Type": "application/json"}
    for values in ({"note": CANARY}, {"note": CANARY, "act": "echo"}):
        client.post(f"{PREDICT}?key={CANARY}", content=body(**values), headers=headers)
    client.post(PREDICT, content=encoded(PNG, act=CANARY), headers=headers)
    logs = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    files = [path for path in logs.rglob("*") if path.is_file()]
    lines = [
        json.loads(line)
        for path in files
        for line in path.read_text(errors="replace").splitlines()
        if '"event": "request"' in line
    ]
    assert len(lines) >= 3 and {"id", "model", "status", "ms"} <= set(lines[0])
    assert [path.name for path in files if CANARY.encode() in path.read_bytes()] == []


# ---------------------------------------------------------------- starting


def test_what_cannot_be_served_is_said_in_one_line(endpoint: Endpoint, store: Store) -> None:
    def refused(*models: str, **more: Any) -> str:
        with pytest.raises(PenstockError) as refusal:
            serve(models, store=store, block=False, **more)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "no model is live" in refused()
    probe.publish(store)
    probe.publish(store)
    assert "two versions" in refused("probe@1", "probe@2")
    assert "nope" in refused("nope")
    assert "access keys" in refused(host="0.0.0.0")
    assert "not an IP address" in refused(host="example")
    port = int(endpoint.url.rpartition(":")[2])
    assert f"port {port} is in use" in refused(port=port)
    assert "runs on this cluster already" in refused(port=0)
    weights = store.models / "probe" / "1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "probe@1" in refused("probe")
