"""The paths of the endpoint, as an ASGI application that knows no Ray.

`create_app` is given the models as data and a way to call them (penstock.serving.calls.Models), so
the same application runs under Ray Serve, under plain uvicorn, or in a test.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse

from penstock.serving import body as bodies
from penstock.serving import pictures
from penstock.serving.calls import Models, Reply, Unavailable
from penstock.serving.door import CLIENT_GONE, App, Door, Scope
from penstock.serving.limits import Limits
from penstock.serving.metrics import NO_MODEL, Metrics
from penstock.serving.openapi import document
from penstock.serving.pages import docs
from penstock.serving.problems import CONTENT_TYPE, Problem, invalid
from penstock.serving.served import Served, find

logger = logging.getLogger("penstock.access")


def create_app(models: Sequence[Served], running: Models, limits: Limits) -> App:
    """The endpoint in front of `models`, which are called through `running`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    metrics = Metrics()
    _add_errors(app)
    _add_descriptions(app, models, running, metrics)
    lanes = {model.name: _Lane(model, running, limits, metrics) for model in models}
    budget = bodies.Budget(limits.bodies_bytes)

    @app.post("/v1/models/{name}/predict")
    async def predict(name: str, request: Request) -> Response:
        model = find(models, name)
        request.state.model = model
        body, kind = await _body(request, model, limits, budget)
        try:
            query = request.query_params.multi_items()
            values = await bodies.values_of(body, kind, query, model.media, limits)
            pictures.ask(values, request.headers.get("accept", ""), model.workload.request)
            _validate(model, values)
            reply = await lanes[model.name].call(values, request)
        finally:
            budget.held -= len(body)
        return _response(model, reply, request)

    def report(scope: Scope, status: int, seconds: float) -> None:
        model = scope["state"].get("model")
        metrics.count(model.name if model else NO_MODEL, status, seconds)
        route = scope.get("route")
        logger.info(
            json.dumps(
                {
                    "event": "request",
                    "id": dict(scope["headers"])[b"x-request-id"].decode(),
                    "method": scope["method"][:16],
                    "route": route.path if route else None,  # never the path: strangers choose it
                    "model": model.title if model else None,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                }
            )
        )

    return Door(app, report)


class _Lane:
    """The way to one model: a bounded number of requests at a time, each with a deadline."""

    def __init__(self, model: Served, running: Models, limits: Limits, metrics: Metrics) -> None:
        self.model = model
        self.running = running
        self.limits = limits
        self.metrics = metrics
        self.count = 0

    async def call(self, values: dict[str, Any], request: Request) -> Reply:
        limits = self.limits
        again = {"Retry-After": str(limits.retry_after_s)}
        if self.count >= limits.queue + limits.batch:
            raise Problem(
                503, f"{self.model.name} has {self.count} requests waiting; try again", headers=again
            )
        left_s = limits.deadline_s - (monotonic() - request.scope["state"]["began"])
        self._step(+1)
        try:
            async with asyncio.timeout(max(left_s, 0)):
                return await self.running.call(self.model.name, values)
        except TimeoutError:
            raise Problem(504, f"{self.model.name} had no answer within {limits.deadline_s:g} s") from None
        except Unavailable as error:
            raise Problem(503, f"{self.model.name} {error}; try again", headers=again) from None
        finally:
            self._step(-1)

    def _step(self, by: int) -> None:
        self.count += by
        self.metrics.in_flight(self.model.name, self.count)


async def _body(
    request: Request, model: Served, limits: Limits, budget: bodies.Budget
) -> tuple[bytearray, str]:
    headers = request.headers
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        # a few bytes of gzip can become gigabytes
        raise Problem(
            415,
            "Content-Encoding is not taken; send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )
    kind = bodies.content_type(headers.get("content-type"))
    most = bodies.largest(kind, model.media, limits)
    body = await bodies.read(aiter(request.stream()), headers.get("content-length"), most, limits, budget)
    return body, kind


def _validate(model: Served, values: dict[str, Any]) -> None:
    try:
        model.workload.request.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None


def _response(model: Served, reply: Reply, request: Request) -> Response:
    headers = {"X-Model": model.title}
    if "answer" in reply:
        picture = pictures.wanted(request.headers.get("accept", ""), reply["answer"], model.workload.answer)
        if picture:
            return Response(picture.raw, media_type=picture.kind, headers=headers)
        return Response(reply["answer"], media_type="application/json", headers=headers)
    if "refusal" in reply:
        raise Problem(422, reply["refusal"][0][1], reply["refusal"])
    logger.error(
        json.dumps({"event": "fault", "id": request.headers["x-request-id"], "what": reply["fault"]})
    )
    raise Problem(500, "the model failed on this request; its id finds it in the log")


def _add_descriptions(app: FastAPI, models: Sequence[Served], running: Models, metrics: Metrics) -> None:
    openapi = document(models)

    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse({"models": [model.summary() for model in models]})

    @app.get("/v1/models/{name}")
    async def describe(name: str) -> Response:
        model = find(models, name)
        return JSONResponse(model.detail(), headers={"X-Model": model.title})

    @app.get("/healthz")
    async def health() -> Response:
        ready = await asyncio.gather(*(running.ready(model.name) for model in models))
        missing = [model.title for model, good in zip(models, ready, strict=True) if not good]
        if missing:
            detail = f"no answer to its own example yet: {', '.join(missing)}"
            raise Problem(503, detail, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ok", "models": [model.title for model in models]})

    @app.get("/metrics")
    async def counters() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    async def describe_all() -> Response:
        return JSONResponse(openapi)

    @app.get("/docs")
    async def page(request: Request) -> Response:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(docs(models, str(request.base_url).rstrip("/")), headers=policy)


def _add_errors(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        headers = dict(problem.headers)
        model = request.scope["state"].get("model")
        if model:
            headers["X-Model"] = model.title
        body = problem.body(request.headers["x-request-id"])
        return Response(body, status_code=problem.status, headers=headers, media_type=CONTENT_TYPE)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        detail = {
            404: "no such path; GET /v1/models lists what is served",
            405: f"{request.method[:16]} is not for this path",
        }.get(error.status_code, "the request cannot be handled")
        return answer(request, Problem(error.status_code, detail, headers=error.headers))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody reads it; the log says 499

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        logger.error(json.dumps({"event": "fault", "id": request.headers["x-request-id"]}), exc_info=error)
        return answer(request, Problem(500, "the request failed on our side; its id finds it in the log"))
