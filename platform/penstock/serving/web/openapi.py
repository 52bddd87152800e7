"""The endpoint's OpenAPI document: one concrete path per served model, examples that work as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

import penstock
from penstock.media import picture_flag
from penstock.serving.example import example
from penstock.serving.problems import CONTENT_TYPE, TITLES
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Way
from penstock.serving.web.facades.feedback import Feedback

_ASKED = (400, 401, 403, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504)
_COMPONENTS = "#/components/schemas/"


def document(ways: Sequence[Way]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON values. `ways`: the first of each served name."""
    schemas: dict[str, Any] = {"Problem": _problem_schema()}
    listed = {"models": [way.model.summary() for way in ways]}
    paths: dict[str, Any] = {
        "/v1/models": _get("list_models", "The served models", listed),
        "/healthz": _get("health", "200 once every served model has answered its own example", None, 503),
        "/metrics": _metrics(),
    }
    for way in ways:
        model, path = way.model, f"/v1/models/{way.model.name}"
        paths[path] = _get(
            f"describe_{model.name}", f"The card of {model.title}, its schemas and an example", None, 404
        )
        paths[f"{path}/predict"] = {"post": _predict(model, schemas)}
        paths[f"{path}/feedback"] = {"post": _feedback(model)}
        if "chat" in way.able:
            paths[f"{path}/stream"] = {"post": _other(model, schemas, "stream", "text/event-stream")}
        if "board" in way.able:
            paths[f"{path}/position"] = {"post": _other(model, schemas, "position", "application/json")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": penstock.__version__,
            "description": "Every published model behind one endpoint. A name may carry @alias or @version. "
            "The same models answer OpenAI's clients at /openai/v1 and those of the Open Inference Protocol "
            "at /v2.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _predict(model: Served, schemas: dict[str, Any]) -> dict[str, Any]:
    workload = model.workload
    body: dict[str, Any] = {
        "application/json": {
            "schema": {"$ref": _add(schemas, model.name, workload.request, "validation")},
            "examples": {"working": {"summary": "A request that works", "value": model.example}},
        }
    }
    for kind in sorted({kind for field in model.media.values() for kind in field.types}):
        body[kind] = {"schema": {"type": "string", "format": "binary"}}
    answer: dict[str, Any] = {"schema": {"$ref": _add(schemas, model.name, workload.answer, "serialization")}}
    typical = example(workload.answer)
    if typical:
        answer["examples"] = {"typical": {"value": typical}}
    answers = {"application/json": answer}
    if picture_flag(workload.request):  # Accept: image/png
        answers["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "operationId": f"predict_{model.name}",
        "summary": workload.summary or f"Answers of {model.name}",
        "parameters": [_request_id()],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {
                "description": "The answer",
                "headers": {
                    name: {"schema": {"type": "string"}, "required": True}
                    for name in ("X-Request-Id", "X-Model")
                },
                "content": answers,
            },
            **_problems(*_ASKED),
        },
    }


def _other(model: Served, schemas: dict[str, Any], verb: str, kind: str) -> dict[str, Any]:
    """Another verb for the same request."""
    asked = _predict(model, schemas)
    said = "The answer as it comes, as server-sent events" if verb == "stream" else "How the game stands"
    answer = {"description": said, "content": {kind: {"schema": {}}}}
    return {
        **asked,
        "operationId": f"{verb}_{model.name}",
        "summary": said,
        "responses": {"200": answer, **_problems(*_ASKED)},
    }


def _feedback(model: Served) -> dict[str, Any]:
    """The path that takes labels."""
    body = {"application/json": {"schema": Feedback.model_json_schema()}}
    return {
        "operationId": f"feedback_{model.name}",
        "summary": f"What the right answer of {model.name} to an earlier request would have been",
        "parameters": [_request_id()],
        "requestBody": {"required": True, "content": body},
        "responses": {"202": {"description": "Taken"}, **_problems(*_ASKED)},
    }


def _add(schemas: dict[str, Any], owner: str, model: type[BaseModel], mode: Any) -> str:
    """Puts a model's schema among the components, its inner ones too, under names of this owner."""
    template = f"{_COMPONENTS}{owner}.{{model}}"
    schema = model.model_json_schema(mode=mode, ref_template=template)
    for name, inner in schema.pop("$defs", {}).items():
        schemas[f"{owner}.{name}"] = inner
    schemas[f"{owner}.{model.__name__}"] = schema
    return f"{_COMPONENTS}{owner}.{model.__name__}"


def _get(operation: str, summary: str, typical: Any, *statuses: int) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"type": "object"}}
    if typical is not None:
        content["example"] = typical
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": [_request_id()],
            "responses": {
                "200": {"description": summary, "content": {"application/json": content}},
                **_problems(401, 403, 429, 431, *statuses),
            },
        }
    }


def _metrics() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    response = {"description": "Counters for Prometheus", "content": content}
    responses = {"200": response, **_problems(401, 403, 431)}
    return {"get": {"operationId": "metrics", "summary": "Counters", "responses": responses}}


def _problems(*statuses: int) -> dict[str, Any]:
    content = {CONTENT_TYPE: {"schema": {"$ref": _COMPONENTS + "Problem"}}}
    return {str(status): {"description": TITLES[status][1], "content": content} for status in statuses}


def _request_id() -> dict[str, Any]:
    return {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "1 to 64 letters, digits and hyphens come back on the answer; otherwise one is made",
        "schema": {"type": "string"},
    }


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {
        "type": "object",
        "properties": {"pointer": text, "detail": text},
        "required": ["pointer", "detail"],
    }
    return {
        "type": "object",
        "description": "An error, as RFC 9457 has it",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": text,
            "errors": {"type": "array", "items": error},
        },
        "required": ["type", "title", "status", "detail", "instance", "errors"],
    }
