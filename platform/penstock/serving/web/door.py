"""What every request passes first, as ASGI middleware: its id, the size of its head, a last resort.

It stands in two places. Inside the gateway, where it also reports each request; and in Serve's HTTP
proxy (through the hook named in penstock.cluster), which otherwise echoes any X-Request-Id, obeys
headers of Serve's own from strangers, and answers its own errors in plain text.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any

from penstock.serving.limits import BODY_BYTES, HEAD_BYTES, URL_BYTES
from penstock.serving.problems import CONTENT_TYPE, Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Admit = Callable[[Scope], None]
"""Raises a Problem for a request that may not pass."""
Report = Callable[[Scope, int, float], None]
"""Told the scope, the status (499: the client went away) and the seconds a request took."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{1,64}")
_ID = b"x-request-id"
_SERVE_ONLY = {
    b"x-request-timeout-seconds",
    b"x-request-disconnect-disabled",
    b"serve-multiplexed-model-id",
    b"x-session-id",
}
CLIENT_GONE = 499


class Door:
    """`app` behind the checks; `report` is called once per HTTP request."""

    def __init__(self, app: App, report: Report | None = None, admit: Admit | None = None) -> None:
        self.app = app
        self.report = report
        self.admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = monotonic()
        request_id = _admit(scope)
        scope.setdefault("state", {})["began"] = began
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        answer = _Answer(send, request_id)
        try:
            _check_head(scope)
            if self.admit:
                self.admit(scope)
            await self.app(scope, _bounded(receive), answer)
            await answer.flush()
        except Problem as problem:
            await answer.problem(problem)
        except Exception:
            if self.report is None:
                raise  # Serve's proxy handles its own errors
            # the application has logged it, and answered if it could
            await answer.problem(Problem(500, "the request failed on our side; its id finds it in the log"))
        finally:
            if self.report:
                self.report(scope, answer.status or CLIENT_GONE, monotonic() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket passes the same checks; one that may not is closed before it opens (HTTP 403)."""
        try:
            _check_head(scope)
            if self.admit:
                self.admit(scope)
        except Problem as problem:
            await send({"type": "websocket.close", "code": 1008, "reason": problem.detail[:120]})
            return
        await self.app(scope, receive, send)


def _admit(scope: Scope) -> str:
    """The request's id, which also replaces whatever the client sent; Serve's own headers go."""
    kept: list[tuple[bytes, bytes]] = []
    request_id = b""
    for name, value in scope["headers"]:
        plain = name.lower().replace(b"_", b"-")
        if plain == _ID:
            request_id = value
        elif plain not in _SERVE_ONLY and plain.isascii():
            kept.append((name, value))
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = str(uuid.uuid4()).encode()
    scope["headers"] = [*kept, (_ID, request_id)]
    return request_id.decode()


def _check_head(scope: Scope) -> None:
    """Problem for a head that is too large, or asks for what is nobody's business."""
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > URL_BYTES:
        raise Problem(
            414, f"path and query have more than {URL_BYTES} bytes", headers={"Connection": "close"}
        )
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > HEAD_BYTES:
        raise Problem(431, f"the headers have more than {HEAD_BYTES} bytes", headers={"Connection": "close"})
    if scope["path"].startswith("/-/routes"):
        raise Problem(404, "no such path")  # Serve's own list of applications


def _bounded(receive: Receive) -> Receive:
    """A `receive` that throws away what comes after BODY_BYTES. Serve's proxy would keep all of it, as
    fast as it arrives, until the gateway has answered."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        while seen > BODY_BYTES and message["type"] == "http.request" and message.get("more_body"):
            message = await receive()
        if message["type"] == "http.request":
            if seen > BODY_BYTES:
                message = {**message, "body": b""}
            seen += len(message.get("body", b""))
        return message

    return bounded


class _Answer:
    """A `send` that puts the id on the answer, and turns an error that is no problem into one."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.send = send
        self.request_id = request_id
        self.status = 0
        self.started = False
        self.foreign: Problem | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [(name, value) for name, value in message.get("headers", []) if name.lower() != _ID]
            kind = dict(headers).get(b"content-type", b"")
            if self.status >= 400 and not kind.startswith(CONTENT_TYPE.encode()):
                self.foreign = _translated(self.status)
                return
            message = {**message, "headers": [*headers, (_ID, self.request_id.encode())]}
            self.started = True
        elif self.foreign:
            return
        await self.send(message)

    async def flush(self) -> None:
        if self.foreign:
            await self.problem(self.foreign)

    async def problem(self, problem: Problem) -> None:
        self.foreign = None
        self.status = problem.status
        if self.started:
            return  # too late to say anything else
        self.started = True
        body = problem.body(self.request_id)
        headers = {
            **problem.headers,
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(len(body)),
            "X-Request-Id": self.request_id,
        }
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})


def _translated(status: int) -> Problem:
    """What Serve's proxy says in plain text, in our words."""
    if status == 408:
        return Problem(504, "the answer was not ready in time")
    if status in (429, 503) or status == 500:
        # in the proxy a 500 means that the gateway went away under the request
        return Problem(503, "the endpoint is starting or overloaded; try again", headers={"Retry-After": "1"})
    if status == 404:
        # paths that do not exist are the gateway's to refuse: the proxy knows no gateway yet
        return Problem(503, "the endpoint is starting; try again", headers={"Retry-After": "1"})
    return Problem(status, "the request cannot be handled")


def middlewares() -> list[Any]:
    """For Serve's HTTP proxy, which calls this when it starts."""
    from starlette.middleware import Middleware

    return [Middleware(Door)]
