"""The Open Inference Protocol (V2, REST) with its binary tensors, so that Triton's and KServe's clients work
unchanged. A field of the request is an input tensor of shape [n], one element a request; a field of the
answer an output tensor of the same shape. Text and bytes are BYTES; lists and objects are JSON in BYTES.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import penstock
from penstock.serving import body as bodies
from penstock.serving.body import parse_json
from penstock.serving.front import Front
from penstock.serving.limits import BODY_BYTES
from penstock.serving.problems import Problem, excerpt, invalid
from penstock.serving.versions.traffic import Way
from penstock.serving.web.facades.tensors import Tensor, from_raw, to_raw

_HEADER = "inference-header-content-length"
_MOST = 64
"""Requests in one call."""


class Input(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=128)
    datatype: str = Field(max_length=16)
    shape: list[int] = Field(min_length=1, max_length=8)
    parameters: dict[str, Any] = {}
    data: Any = None


class Output(BaseModel):
    name: str = Field(max_length=128)
    parameters: dict[str, Any] = {}


class Call(BaseModel):
    """The head of a request."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field("", max_length=256)
    parameters: dict[str, Any] = {}
    inputs: list[Input] = Field(min_length=1, max_length=64)
    outputs: list[Output] = Field([], max_length=64)


def add(app: FastAPI, front: Front) -> None:
    """Adds the paths."""

    @app.get("/v2")
    async def server() -> Response:
        about = {"name": "penstock", "version": penstock.__version__, "extensions": ["binary_tensor_data"]}
        return JSONResponse(about)

    @app.get("/v2/health/live")
    async def live() -> Response:
        return JSONResponse({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        traffic = front.now()
        good = await asyncio.gather(*(front.running.ready(way.app) for way in traffic.ways))
        if traffic.waiting or not all(good):
            raise Problem(503, "not every model is ready yet", headers={"Retry-After": "1"})
        return JSONResponse({"ready": True})

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def describe(name: str, version: str = "") -> Response:
        way = front.now().choose(reference(name, version))
        return JSONResponse(metadata(way), headers={"X-Model": way.model.title})

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str = "") -> Response:
        way = front.now().choose(reference(name, version))
        if not await front.running.ready(way.app):
            raise Problem(503, f"{way.model.title} is not ready", headers={"Retry-After": "1"})
        return JSONResponse({"name": name, "ready": True})

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(name: str, request: Request, version: str = "") -> Response:
        asked = reference(name, version)
        way = front.choose(asked, request)
        most = min(BODY_BYTES, bodies.largest("application/json", way.model.media, front.limits))
        async with front.body(most, request) as body:
            call, raw = _parts(body, request, front.limits.depth)
            values = requests_in(call, raw, way)
            answers = await asyncio.gather(*(front.ask(asked, one, request) for one in values))
        return _answer(call, way, [json.loads(answer) for answer in answers], request)


def reference(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def metadata(way: Way) -> dict[str, Any]:
    """The tensors of a model's request and answer."""
    workload = way.model.workload
    asked = workload.request.model_json_schema()["properties"]
    said = workload.answer.model_json_schema(mode="serialization")["properties"]
    return {
        "name": way.model.name,
        "versions": [str(way.model.version)],
        "platform": "penstock",
        "inputs": [{"name": n, "datatype": kind_of(f), "shape": [-1]} for n, f in asked.items()],
        "outputs": [{"name": n, "datatype": kind_of(f), "shape": [-1]} for n, f in said.items()],
    }


def kind_of(field: dict[str, Any]) -> str:
    """The datatype of a field's tensor, by its JSON Schema."""
    return {"integer": "INT64", "number": "FP64", "boolean": "BOOL"}.get(str(field.get("type")), "BYTES")


def is_text(field: dict[str, Any]) -> bool:
    """Whether an element is the value itself, and not its JSON."""
    kinds = [field, *field.get("anyOf", ())]
    return any(kind.get("type") == "string" for kind in kinds)


def _parts(body: bytearray, request: Request, depth: int) -> tuple[Call, memoryview]:
    """The head, and the raw tensors behind it."""
    said = request.headers.get(_HEADER, "")
    length = int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else len(body)
    if length > len(body):
        raise Problem(400, f"{_HEADER} is larger than the body")
    try:
        call = Call.model_validate(parse_json(body[:length], depth))
    except ValidationError as error:
        raise invalid(error) from None
    return call, memoryview(bytes(body[length:]))


def requests_in(call: Call, raw: memoryview, way: Way) -> list[dict[str, Any]]:
    """The values of each request of a call; Problem 400 or 422 names the tensor that is wrong."""
    fields = way.model.workload.request.model_json_schema()["properties"]
    columns: dict[str, list[Any]] = {}
    for given in call.inputs:
        if given.name not in fields:
            raise Problem(
                422, f"no input {excerpt(given.name)!r}; {way.model.name} takes {', '.join(fields)}"
            )
        size = given.parameters.get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(raw):
                raise Problem(400, f"input {given.name}: binary_data_size is more than what was sent")
            column, raw = from_raw(Tensor(given.name, given.datatype, given.shape), raw[:size]), raw[size:]
        else:
            column = _flat(given)
        columns[given.name] = [_value(given, fields[given.name], way, one) for one in column]
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1 or not 1 <= (count := counts.pop()) <= _MOST:
        raise Problem(422, f"every input has the same number of elements, 1 to {_MOST}")
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def _flat(given: Input) -> list[Any]:
    flat = given.data if isinstance(given.data, list) else [given.data]
    while flat and isinstance(flat[0], list) and len(flat) <= _MOST:
        flat = [one for inner in flat for one in (inner if isinstance(inner, list) else [inner])]
    if len(flat) != math.prod(given.shape):
        raise Problem(422, f"input {given.name} has {len(flat)} elements, and its shape says otherwise")
    return flat


def _value(given: Input, field: dict[str, Any], way: Way, one: Any) -> Any:
    if not isinstance(one, bytes | str):
        return one
    name, media = given.name, way.model.media
    if name in media:
        return one if isinstance(one, bytes) else bodies.decoded(name, one, media[name])
    try:
        text = one if isinstance(one, str) else one.decode()
    except UnicodeDecodeError:
        raise Problem(400, f"input {name} is not UTF-8") from None
    return text if is_text(field) else parse_json(text.encode(), 32)


def _answer(call: Call, way: Way, answers: list[dict[str, Any]], request: Request) -> Response:
    fields = way.model.workload.answer.model_json_schema(mode="serialization")["properties"]
    wanted = {output.name: output for output in call.outputs} or {n: Output(name=n) for n in fields}
    everything = bool(call.parameters.get("binary_data_output"))
    outputs, parts = [], []
    for name, output in wanted.items():
        if name not in fields:
            raise Problem(422, f"no output {excerpt(name)!r}; {way.model.name} gives {', '.join(fields)}")
        kind, column = kind_of(fields[name]), [answer.get(name) for answer in answers]
        if kind == "BYTES":
            plain = is_text(fields[name]) and all(isinstance(one, str) for one in column)
            column = column if plain else [json.dumps(one) for one in column]
        about: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(column)]}
        if output.parameters.get("binary_data", everything):
            raw = to_raw(kind, column)
            about["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            about["data"] = column
        outputs.append(about)
    model = request.state.model
    head = {"model_name": model.name, "model_version": str(model.version), "id": call.id, "outputs": outputs}
    text = json.dumps(head).encode()
    headers = {"X-Model": model.title}
    if not parts:
        return Response(text, media_type="application/json", headers=headers)
    headers["Inference-Header-Content-Length"] = str(len(text))
    return Response(b"".join([text, *parts]), media_type="application/octet-stream", headers=headers)
