"""Server-sent events: an answer as it comes.

data: {"text": "One "}        for each piece
event: answer   data: {…}     the whole answer, at the end
event: problem  data: {…}     instead, when it fails on the way
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.responses import StreamingResponse

from penstock.serving.front import Front
from penstock.serving.problems import Problem

Event = Callable[[str | bytes], str]
"""A piece (text) or the answer (JSON bytes) as an event."""


def event(piece: str | bytes) -> str:
    if isinstance(piece, bytes):
        return f"event: answer\ndata: {piece.decode()}\n\n"
    return f"data: {json.dumps({'text': piece})}\n\n"


async def stream(
    front: Front, name: str, values: dict[str, object], request: Request, as_event: Event, end: str = ""
) -> StreamingResponse:
    """The answer to `values` as events, `end` after them. Problem, as any other path, for what goes wrong
    before the first."""
    pieces = front.stream(name, values, request)
    first = await anext(pieces)

    async def events() -> AsyncIterator[str]:
        try:
            yield as_event(first)
            async for piece in pieces:
                yield as_event(piece)
            yield end
        except Problem as problem:
            document = problem.body(request.headers["x-request-id"]).decode()
            yield f"event: problem\ndata: {document}\n\n"

    headers = {"X-Model": request.state.model.title, "Cache-Control": "no-store"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
