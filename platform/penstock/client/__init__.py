"""A client of the endpoint: files, bytes or values in, typed answers out, tried again where that is safe.

    from penstock import Client

    with Client("http://127.0.0.1:8000") as client:
        client.predict("speech", "clip.wav").label
        client.ask("pathology", "tile.png").request_id

Predicting changes nothing, so a request that was not answered is sent again: after a broken connection, and
after 429 and 503 when the endpoint says it may, until `timeout` seconds are over.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import httpx

from penstock.client.base import Base, Reply, RequestFailed, Values, authorization
from penstock.client.message import Message

__all__ = ["AsyncClient", "Client", "Reply", "RequestFailed", "Values", "authorization"]


class Client(Base[httpx.Client]):
    """`key`: an access key, where the endpoint asks for one (default: PENSTOCK_KEY); `timeout`: seconds for
    an answer, all tries together. Every method raises RequestFailed, one line, when the endpoint does not
    answer or refuses."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, key: str | None = None, timeout: float = 60.0
    ) -> None:
        super().__init__(url, key=key, timeout=timeout)
        self._http = httpx.Client(**self._options)

    def predict(self, model: str, given: Any = None, /, **fields: Any) -> Any:
        """The answer of `model` (name, name@alias, name@version) to `given`: a path or the bytes of a
        picture or sound, a text, a mapping, or the workload's own request; `fields` go beside it."""
        return self.ask(model, given, **fields).answer

    def ask(self, model: str, given: Any = None, /, **fields: Any) -> Reply:
        """As `predict`, with the version that answered and the request's id."""
        self.describe(model)
        request = self._message(model, given, fields)
        response, tries = self._send("POST", request)
        return self._reply(model, response, tries)

    def models(self) -> list[dict[str, Any]]:
        """What is served: name, version, aliases, share, goal metric with its interval."""
        response, _ = self._send("GET", Message("/v1/models", b"", {}, {}))
        found: list[dict[str, Any]] = response.json()["models"]
        return found

    def describe(self, model: str) -> dict[str, Any]:
        """The card of `model`, the schemas of its request and answer, an example that works."""
        if model not in self._cards:
            path = f"/v1/models/{quote(model, safe='@')}"
            self._cards[model] = self._send("GET", Message(path, b"", {}, {}))[0].json()
        return self._cards[model]

    def _send(self, method: str, request: Message) -> tuple[httpx.Response, int]:
        until, tries = time.monotonic() + self.timeout, 0
        while True:
            tries += 1
            got: httpx.Response | httpx.TransportError
            try:
                got = self._http.request(**self._wire(method, request))
            except httpx.TransportError as broken:
                got = broken
            if isinstance(got, httpx.Response) and got.status_code < 400:
                return got, tries
            time.sleep(self._pause(got, tries, until))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient(Base[httpx.AsyncClient]):
    """The same for asyncio: `await client.predict(…)`, `async with AsyncClient(url) as client`."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, key: str | None = None, timeout: float = 60.0
    ) -> None:
        super().__init__(url, key=key, timeout=timeout)
        self._http = httpx.AsyncClient(**self._options)

    async def predict(self, model: str, given: Any = None, /, **fields: Any) -> Any:
        """As Client.predict."""
        return (await self.ask(model, given, **fields)).answer

    async def ask(self, model: str, given: Any = None, /, **fields: Any) -> Reply:
        """As Client.ask."""
        await self.describe(model)
        request = self._message(model, given, fields)
        response, tries = await self._send("POST", request)
        return self._reply(model, response, tries)

    async def models(self) -> list[dict[str, Any]]:
        """As Client.models."""
        response, _ = await self._send("GET", Message("/v1/models", b"", {}, {}))
        found: list[dict[str, Any]] = response.json()["models"]
        return found

    async def describe(self, model: str) -> dict[str, Any]:
        """As Client.describe."""
        if model not in self._cards:
            path = f"/v1/models/{quote(model, safe='@')}"
            self._cards[model] = (await self._send("GET", Message(path, b"", {}, {})))[0].json()
        return self._cards[model]

    async def _send(self, method: str, request: Message) -> tuple[httpx.Response, int]:
        until, tries = time.monotonic() + self.timeout, 0
        while True:
            tries += 1
            got: httpx.Response | httpx.TransportError
            try:
                got = await self._http.request(**self._wire(method, request))
            except httpx.TransportError as broken:
                got = broken
            if isinstance(got, httpx.Response) and got.status_code < 400:
                return got, tries
            await asyncio.sleep(self._pause(got, tries, until))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
