"""The paths of the endpoint, as an ASGI application that knows no Ray.

A Front is told how traffic goes as data, and given a way to call the models (penstock.serving.calls.Models),
so the same application runs under Ray Serve, under plain uvicorn, or in a test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse

from penstock.serving import body as bodies
from penstock.serving.front import Front, logger
from penstock.serving.problems import CONTENT_TYPE, Problem
from penstock.serving.served import Served
from penstock.serving.versions.traffic import Way
from penstock.serving.web import pictures, playground
from penstock.serving.web.access import Keyring
from penstock.serving.web.door import CLIENT_GONE, App, Door, Scope
from penstock.serving.web.facades import events, feedback, frames, inference, openai
from penstock.serving.web.guard import Guard
from penstock.serving.web.openapi import document
from penstock.serving.web.pages import docs


def create_app(front: Front, keyring: Keyring | None = None) -> App:
    """The endpoint's paths before `front`. `keyring`: the keys that clients have to show, None where they
    need none."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    _add_errors(app)
    _add_descriptions(app, front)

    @app.post("/v1/models/{name}/predict")
    async def predict(name: str, request: Request) -> Response:
        async with _values(front, name, request) as values:
            answer = await front.ask(name, values, request)
        return _response(request.state.model, answer, request.headers.get("accept", ""))

    @app.post("/v1/models/{name}/stream")
    async def stream(name: str, request: Request) -> Response:
        way = front.choose(name, request)
        if "chat" not in way.able:
            raise Problem(
                404, f"{way.model.name} answers all at once; POST /v1/models/{way.model.name}/predict"
            )
        async with _values(front, name, request) as values:
            return await events.stream(front, name, values, request, events.event)

    @app.post("/v1/models/{name}/position")
    async def position(name: str, request: Request) -> Response:
        way = front.choose(name, request)
        if "board" not in way.able:
            raise Problem(404, f"{way.model.name} plays no board game")
        async with _values(front, name, request) as values:
            answer = await front.position(name, values, request)
        return _response(request.state.model, answer, "")

    for facade in (feedback, openai, inference, frames):
        facade.add(app, front)
    playground.add(app)

    def report(scope: Scope, status: int, seconds: float) -> None:
        model = scope["state"].get("model")
        front.metrics.count(model.title if model else None, status, seconds)
        route = scope.get("route")
        logger.info(
            json.dumps(
                {
                    "event": "request",
                    "id": dict(scope["headers"])[b"x-request-id"].decode(),
                    "method": scope["method"][:16],
                    "route": route.path if route else None,  # never the path: strangers choose it
                    "model": model.title if model else None,
                    "key": scope["state"].get("client"),
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                }
            )
        )

    return Door(app, report, Guard(keyring, front.limits.rate).admit)


@asynccontextmanager
async def _values(front: Front, name: str, request: Request) -> AsyncIterator[dict[str, Any]]:
    """The request's values, whose bytes are held until the block ends."""
    way = front.choose(name, request)
    front.room(way)  # what would be turned away afterwards need not be read
    kind = bodies.content_type(request.headers.get("content-type"))
    async with front.body(bodies.largest(kind, way.model.media, front.limits), request) as body:
        query = request.query_params.multi_items()
        values = await bodies.values_of(body, kind, query, way.model.media, front.limits)
        pictures.ask(values, request.headers.get("accept", ""), way.model.workload.request)
        yield values


def _response(model: Served, answer: bytes, accept: str) -> Response:
    headers = {"X-Model": model.title}
    picture = pictures.wanted(accept, answer, model.workload.answer)
    if picture:
        return Response(picture.raw, media_type=picture.kind, headers=headers)
    return Response(answer, media_type="application/json", headers=headers)


def _add_descriptions(app: FastAPI, front: Front) -> None:
    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse({"models": [_line(way) for way in front.now().ways]})

    @app.get("/v1/models/{name}")
    async def describe(name: str) -> Response:
        way = front.now().choose(name)
        headers = {"X-Model": way.model.title}
        return JSONResponse({**way.model.detail(), **_line(way)}, headers=headers)

    @app.get("/healthz")
    async def health() -> Response:
        traffic = front.now()
        ready = await asyncio.gather(*(front.running.ready(way.app) for way in traffic.ways))
        titles = [way.model.title for way in traffic.ways]
        missing = [*traffic.waiting, *(title for title, good in zip(titles, ready, strict=True) if not good)]
        if missing:
            detail = f"no answer to its own example yet: {', '.join(missing)}"
            raise Problem(503, detail, headers={"Retry-After": "1"})
        return JSONResponse({"status": "ok", "models": titles})

    @app.get("/metrics")
    async def counters() -> Response:
        return Response(front.metrics.text(), media_type="text/plain; version=0.0.4")

    documents: dict[int, bytes] = {}  # of the traffic that was last asked about, by its number

    @app.get("/openapi.json")
    async def describe_all() -> Response:
        traffic = front.now()
        if traffic.number not in documents:
            documents.clear()
            documents[traffic.number] = json.dumps(document(traffic.firsts())).encode()
        return Response(documents[traffic.number], media_type="application/json")

    @app.get("/docs")
    async def page(request: Request) -> Response:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        text = docs([way.model for way in front.now().firsts()], str(request.base_url).rstrip("/"))
        return HTMLResponse(text, headers=policy)


def _line(way: Way) -> dict[str, Any]:
    return {**way.model.summary(), "share": way.share, "able": list(way.able)}


def _add_errors(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        headers = dict(problem.headers)
        model = request.scope["state"].get("model")
        if model:
            headers["X-Model"] = model.title
        more = openai.error(problem) if request.url.path.startswith(openai.PREFIX) else None
        body = problem.body(request.headers["x-request-id"], more)
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
