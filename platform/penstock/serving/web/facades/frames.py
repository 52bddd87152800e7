"""A camera's frames over a WebSocket: pictures in, an answer for each, the oldest dropped when behind.

In: one picture (or sound) a message, binary. Out, in order, as text:
{"frame": 3, "dropped": 1, "answer": {…}} or {"frame": 4, "dropped": 1, "problem": {…}}
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from time import monotonic

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from penstock.serving.body import sniff
from penstock.serving.front import Front
from penstock.serving.problems import Problem

_WAITING = 2
"""Frames that wait while one is looked at."""


def add(app: FastAPI, front: Front) -> None:
    """Adds the path."""

    @app.websocket("/v1/models/{name}/frames")
    async def frames(name: str, socket: WebSocket) -> None:
        try:
            way = front.choose(name, socket)
            if "frames" not in way.able:
                raise Problem(404, f"{way.model.name} takes no frames")
        except Problem as problem:
            await socket.close(1008, problem.detail[:120])
            return
        await socket.accept()
        with suppress(WebSocketDisconnect):
            await _Camera(front, name, socket).run()


class _Camera:
    """One connection."""

    def __init__(self, front: Front, name: str, socket: WebSocket) -> None:
        self.front, self.name, self.socket = front, name, socket
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.came = asyncio.Event()
        self.dropped = 0

    async def run(self) -> None:
        """Until the client goes."""
        answering = asyncio.create_task(self._answer())
        try:
            number = 0
            while True:
                frame = await self.socket.receive_bytes()
                self.waiting.append((number, frame))
                number += 1
                if len(self.waiting) > _WAITING:
                    self.waiting.popleft()
                    self.dropped += 1
                self.came.set()
        finally:
            answering.cancel()

    async def _answer(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # a client that went while it was answered
            while True:
                await self.came.wait()
                number, frame = self.waiting.popleft()
                if not self.waiting:
                    self.came.clear()
                await self.socket.send_text(await self._one(number, frame))

    async def _one(self, number: int, frame: bytes) -> str:
        head = f'{{"frame": {number}, "dropped": {self.dropped}, '
        self.socket.scope["state"]["began"] = monotonic()
        try:
            return f'{head}"answer": {(await self._ask(frame)).decode()}}}'
        except Problem as problem:
            document = problem.body(self.socket.headers["x-request-id"]).decode()
            return f'{head}"problem": {document}}}'

    async def _ask(self, frame: bytes) -> bytes:
        media = self.front.choose(self.name, self.socket).model.media
        kind = sniff(frame)
        name = next((name for name, field in media.items() if kind in field.types), None)
        if name is None:
            raise Problem(415, "a frame is a picture or sound that the model takes")
        if len(frame) > media[name].limit:
            raise Problem(413, f"a frame has more than {media[name].limit} bytes")
        values: dict[str, object] = dict(self.socket.query_params.multi_items())
        return await self.front.ask(self.name, {**values, name: frame}, self.socket)
