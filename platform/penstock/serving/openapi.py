"""The endpoint's OpenAPI document: one concrete path per served model, examples that work as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

import penstock
from penstock.media import picture_flag
from penstock.serving.problems import CONTENT_TYPE, TITLES
from penstock.serving.served import Served, example

_COMPONENTS = "#/components/schemas/"


def document(models: Sequence[Served]) -> dict[str, Any]:
    """OpenAPI 3.1, as JSON values."""
    schemas: dict[str, Any] = {"Problem": _problem_schema()}
    paths: dict[str, Any] = {
        "/v1/models": _get("list_models", "The served models", {"models": [one.summary() for one in models]}),
        "/healthz": _get("health", "200 once every served model has answered its own example", None, 503),
        "/metrics": _metrics(),
    }
    for model in models:
        paths[f"/v1/models/{model.name}"] = _get(
            f"describe_{model.name}", f"The card of {model.title}, its schemas and an example", None, 404
        )
        paths[f"/v1/models/{model.name}/predict"] = {"post": _predict(model, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": penstock.__version__,
            "description": "Every published model behind one endpoint. A name may carry @alias or @version.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
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
            **_problems(400, 404, 406, 408, 413, 415, 422, 431, 500, 503, 504),
        },
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
                **_problems(*statuses),
            },
        }
    }


def _metrics() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    response = {"description": "Counters for Prometheus", "content": content}
    return {"get": {"operationId": "metrics", "summary": "Counters", "responses": {"200": response}}}


def _problems(*statuses: int) -> dict[str, Any]:
    content = {CONTENT_TYPE: {"schema": {"$ref": _COMPONENTS + "Problem"}}}
    return {str(status): {"description": TITLES[status][1], "content": content} for status in statuses}


def _request_id() -> dict[str, Any]:
    return {
        "name": "X-Request-Id",
        "in": "header",
        "required": False,
        "description": "comes back on the answer; one is made where there is none",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
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
