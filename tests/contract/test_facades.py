"""Other ways to the same models, with the real clients: OpenAI's, Triton's, an EventSource, a WebSocket."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from penstock.client import AsyncClient, Client, RequestFailed
from penstock.client.message import message
from penstock.errors import PenstockError
from penstock.serving.front import Front
from tests import probe
from tests.endpoints import application, running

openai = pytest.importorskip("openai", reason="the real client of the protocol is not installed")
triton = pytest.importorskip("tritonclient.http", reason="the real client of the protocol is not installed")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Front]]:
    app, front = application()
    with running(app) as url:
        yield url, front


@pytest.fixture
def url(served: tuple[str, Front]) -> str:
    return served[0]


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# ---------------------------------------------------------------- server-sent events


def events(text: str) -> list[tuple[str, dict[str, object]]]:
    found = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines:
            kind = next((line[7:] for line in lines if line.startswith("event: ")), "message")
            found.append((kind, json.loads(next(line[6:] for line in lines if line.startswith("data: ")))))
    return found


def test_a_stream_is_pieces_and_then_the_whole_answer(http: httpx.Client) -> None:
    got = http.post("/v1/models/talk/stream", json={"messages": say("one two three")})
    assert got.headers["content-type"].startswith("text/event-stream") and got.headers["x-model"] == "talk@3"
    *pieces, (kind, answer) = events(got.text)
    assert [piece["text"] for _, piece in pieces] == ["three", " two", " one"]
    assert kind == "answer" and answer["text"] == "three two one"


def test_what_goes_wrong_before_the_first_piece_is_a_problem_and_after_it_an_event(
    http: httpx.Client,
) -> None:
    refused = http.post("/v1/models/talk/stream", json={"messages": say("refuse")})
    assert refused.status_code == 422 and refused.headers["content-type"] == "application/problem+json"
    broken = http.post("/v1/models/talk/stream", json={"messages": say("break it now")})
    (first, _), (kind, problem) = events(broken.text)
    assert (broken.status_code, first, kind, problem["status"]) == (200, "message", "problem", 500)
    assert "secret" not in broken.text


def test_a_model_that_does_not_stream_says_where_it_answers(http: httpx.Client) -> None:
    got = http.post("/v1/models/probe/stream", content=probe.png(), headers={"Content-Type": "image/png"})
    assert got.status_code == 404 and "/v1/models/probe/predict" in got.json()["detail"]


# ---------------------------------------------------------------- OpenAI


@pytest.fixture
def chat(url: str) -> Iterator[object]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(
        base_url=f"{url}/openai/v1", api_key="none", max_retries=0, http_client=http
    ) as client:
        yield client


def test_the_openai_client_chats(chat: openai.OpenAI) -> None:
    assert [model.id for model in chat.models.list()] == ["talk"]
    got = chat.chat.completions.create(model="talk", messages=say("a b c"), temperature=0, seed=1)
    assert got.choices[0].message.content == "c b a" and got.choices[0].finish_reason == "stop"
    assert got.usage is not None and got.usage.total_tokens == 6
    parts = [{"type": "text", "text": "x "}, {"type": "text", "text": "y"}]
    cut = chat.chat.completions.create(
        model="talk@3", messages=[{"role": "user", "content": parts}], max_completion_tokens=1
    )
    assert cut.choices[0].message.content == "y" and cut.choices[0].finish_reason == "length"


def test_the_openai_client_streams(chat: openai.OpenAI) -> None:
    coming = chat.chat.completions.create(
        model="talk", messages=say("a b c"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(coming)
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert texts == ["c", " b", " a"]
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"model": "probe"}, 404, "does not chat"),
        ({"model": "nope"}, 404, "served: probe@1, talk@3"),
        ({"n": 2}, 422, "/n"),
        ({"max_tokens": 9999}, 422, "/max_tokens"),
        ({"messages": []}, 422, "/messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 422, "/tools"),
    ],
)
def test_the_openai_client_is_told_what_cannot_be(
    chat: openai.OpenAI, asked: dict[str, object], status: int, says: str
) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        chat.chat.completions.create(**{"model": "talk", "messages": say("a"), **asked})  # type: ignore[call-overload]
    assert error.value.status_code == status and says in str(error.value)


# ---------------------------------------------------------------- Open Inference Protocol


@pytest.fixture
def infer(url: str) -> Iterator[object]:
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def test_tritons_client_finds_and_asks_a_model(infer: triton.InferenceServerClient) -> None:
    assert infer.is_server_live() and infer.is_server_ready() and infer.is_model_ready("probe")
    about = infer.get_model_metadata("probe")
    assert {"name": "gain", "datatype": "FP64", "shape": [-1]} in about["inputs"]
    image = triton.InferInput("image", [2], "BYTES")
    image.set_data_from_numpy(np.array([probe.png(), probe.png(8, (50, 0, 0))], dtype=object))
    gain = triton.InferInput("gain", [2], "FP32")
    gain.set_data_from_numpy(np.array([1, 2], np.float32))
    got = infer.infer("probe", [image, gain], request_id="mine")
    assert got.as_numpy("red").tolist() == [200.0, 100.0]
    assert got.get_response()["id"] == "mine" and got.get_response()["model_version"] == "1"
    assert got.as_numpy("batch").dtype == np.int64


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_travel_as_bytes_or_as_json(infer: triton.InferenceServerClient, binary: bool) -> None:
    image = triton.InferInput("image", [1], "BYTES")
    raw = probe.png() if binary else base64.b64encode(probe.png())
    image.set_data_from_numpy(np.array([raw], dtype=object), binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("red", "negative")]
    got = infer.infer("probe", [image], model_version="1", outputs=wanted)
    assert got.as_numpy("red").tolist() == [200.0]
    assert [json.loads(one) for one in got.as_numpy("negative").tolist()] == [None]
    assert {output["name"] for output in got.get_response()["outputs"]} == {"red", "negative"}


def test_a_list_is_json_in_a_tensor(infer: triton.InferenceServerClient) -> None:
    messages = triton.InferInput("messages", [1], "BYTES")
    messages.set_data_from_numpy(np.array([json.dumps(say("p q"))], dtype=object))
    assert infer.infer("talk", [messages]).as_numpy("text").tolist() == [b"q p"]


@pytest.mark.parametrize(
    ("call", "head", "status", "says"),
    [
        ({"inputs": []}, {}, 422, "/inputs"),
        ({"inputs": [{"name": "no", "datatype": "BYTES", "shape": [1], "data": [""]}]}, {}, 422, "no input"),
        (
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["&"]}]},
            {},
            400,
            "base64",
        ),
        ({"inputs": [{"name": "gain", "datatype": "FP64", "shape": [2], "data": [1]}]}, {}, 422, "shape"),
        (
            {
                "inputs": [
                    {
                        "name": "gain",
                        "datatype": "FP64",
                        "shape": [1],
                        "parameters": {"binary_data_size": 80},
                    }
                ]
            },
            {},
            400,
            "binary_data_size",
        ),
        (
            {
                "inputs": [
                    {"name": "gain", "datatype": "X", "shape": [1], "parameters": {"binary_data_size": 0}}
                ]
            },
            {},
            400,
            "datatype",
        ),
        (
            {"inputs": [{"name": "gain", "datatype": "FP64", "shape": [1], "data": [1]}]},
            {"big": "1"},
            400,
            "larger",
        ),
        ({"inputs": [{"name": "gain", "datatype": "FP64", "shape": [10**9], "data": [1]}]}, {}, 422, "shape"),
    ],
)
def test_a_call_that_is_wrong_is_told_where(
    http: httpx.Client, call: object, head: dict[str, str], status: int, says: str
) -> None:
    headers = {"Inference-Header-Content-Length": "99999"} if head else {}
    got = http.post("/v2/models/probe/infer", content=json.dumps(call), headers=headers)
    assert got.status_code == status and says in got.text, got.text
    assert got.headers["content-type"] == "application/problem+json"


# ---------------------------------------------------------------- frames, labels


def test_frames_are_answered_in_order_and_the_oldest_dropped(url: str) -> None:
    from websockets.sync.client import connect

    place = f"{url.replace('http', 'ws')}/v1/models/probe/frames?gain=2"
    with connect(place, proxy=None) as socket:
        for shade in range(20):
            socket.send(probe.png(4, (10 * shade, 0, 0)))
        socket.send(b"no picture")
        answers = []
        while not answers or answers[-1]["frame"] < 20:
            answers.append(json.loads(socket.recv(timeout=10)))
    *pictures, last = answers
    numbers = [answer["frame"] for answer in pictures]
    assert numbers == sorted(numbers) and len(numbers) >= 1
    assert all(answer["answer"]["red"] == 20 * answer["frame"] for answer in pictures)
    assert last["problem"]["status"] == 415 and last["dropped"] == 21 - len(answers)


def test_a_model_without_frames_does_not_open(url: str) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus, match="403"):
        connect(f"{url.replace('http', 'ws')}/v1/models/talk/frames", proxy=None)


def test_labels_come_back_once_and_are_scored(served: tuple[str, Front], http: httpx.Client) -> None:
    _, front = served
    head = {"Content-Type": "image/png", "X-Request-Id": "answer-1"}
    assert http.post("/v1/models/probe/predict", content=probe.png(), headers=head).status_code == 200
    said = {"request_id": "answer-1", "truth": {"label": "left"}}
    got = http.post("/v1/models/probe/feedback", json=said)
    assert (got.status_code, got.json()["scored"]) == (202, True), got.text
    assert front.tallies["probe@1"].labelled == 1
    assert json.loads(front.records["probe@1"][0])[0]["truth"] == "left"
    again = http.post("/v1/models/probe/feedback", json=said)
    assert again.status_code == 404, "one word counts once"
    for wrong in ({}, {"request_id": "x", "truth": {}}, {"request_id": "é", "truth": {"label": "left"}}):
        assert http.post("/v1/models/probe/feedback", json=wrong).status_code == 422


# ---------------------------------------------------------------- our own client


def test_the_client_sends_files_bytes_texts_and_values(url: str, tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "red.png"
    path.write_bytes(probe.png())
    with Client(url) as client:
        assert client.predict("probe", path).red == 200.0
        assert client.predict("probe", str(path), gain=2).red == 400.0
        assert client.predict("probe", probe.png(), note="n", act="").red == 200.0
        assert client.predict("probe", probe.Request(image=probe.png(), gain=0.5)).red == 100.0
        reply = client.ask("probe@live", {"image": probe.png()})
        assert reply.model == "probe@1" and reply.tries == 1 and len(reply.request_id) == 36
        assert client.predict("talk", messages=say("a b")).text == "b a"
        assert [model["name"] for model in client.models()] == ["probe", "talk"]
        with pytest.raises(RequestFailed, match="404: no model 'nope'") as error:
            client.predict("nope", {})
        assert error.value.status == 404 and error.value.problem["type"] == "/problems/not-found"
        with pytest.raises(RequestFailed, match="422"):
            client.predict("probe", probe.png(), gain=99)


def test_the_client_for_asyncio_is_the_same(url: str) -> None:
    import asyncio

    async def play() -> list[float]:
        async with AsyncClient(url) as client:
            answers = await asyncio.gather(*(client.predict("probe", probe.png(), gain=g) for g in (1, 2, 3)))
            return [answer.red for answer in answers]

    assert asyncio.run(play()) == [200.0, 400.0, 600.0]


def test_the_client_tries_again_where_that_is_safe(url: str) -> None:
    """A server that breaks off, says later, and then answers."""
    import http.server
    import threading

    seen: list[str] = []

    class Moody(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            if len(seen) == 1:
                self.connection.close()
                return
            status = 503 if len(seen) == 2 else 200
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b'{"red": 1.0, "batch": 1, "process": 1}')

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Client(url) as teacher, Client(f"http://127.0.0.1:{server.server_port}") as client:
            client._cards["probe"] = teacher.describe("probe")
            assert client.ask("probe", probe.png()).tries == 3
    finally:
        server.shutdown()
        thread.join()
    with (
        pytest.raises(RequestFailed, match="no endpoint answers"),
        Client(f"http://127.0.0.1:{server.server_port}", timeout=0.3) as client,
    ):
        client.models()


def test_a_path_that_is_no_file_is_named_where_no_text_is_taken() -> None:
    schema = {"properties": {"image": {"type": "string", "contentMediaType": "image/png"}}}
    with pytest.raises(PenstockError) as refused:
        message(schema, "tiles", "/nope.png", {})
    assert str(refused.value) == "'/nope.png' is no file, and tiles takes no text; its fields: image"
