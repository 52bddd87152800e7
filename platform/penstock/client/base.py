"""What both clients share: everything but waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from penstock import catalog
from penstock.client.message import Message, message
from penstock.errors import PenstockError

AnyClient = TypeVar("AnyClient", httpx.Client, httpx.AsyncClient)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AGAIN = (429, 502, 503)
_PAUSE_S = 0.05  # before the second try; twice as long before each further one
_LONGEST_S = 2.0


class RequestFailed(PenstockError):
    """The endpoint did not answer a request, or refused it. `status`: 0 where there was no connection;
    `problem`: its problem document."""

    def __init__(self, message: str, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = dict(problem or {})


class Values(dict[str, Any]):
    """An answer of a workload that is not installed here: its fields are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return _values(self[name])
        except KeyError:
            raise AttributeError(f"the answer has no {name!r}; it has {', '.join(self)}") from None


@dataclass(frozen=True)
class Reply:
    """`answer`: of the workload's own type where it is installed, else Values; `model`: name@version;
    `tries`: how often the request was sent."""

    answer: Any
    model: str
    request_id: str
    tries: int


class Base(Generic[AnyClient]):
    """A client without a way to send and to wait."""

    _http: AnyClient

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, key: str | None = None, timeout: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PenstockError(f"{url!r} is not the URL of an endpoint; write http://127.0.0.1:8000")
        self.url, self.timeout = url.rstrip("/"), timeout
        self._cards: dict[str, dict[str, Any]] = {}
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": timeout,
            "headers": authorization(key),
            # a proxy that the environment names is for the world outside, not for this machine
            "trust_env": parts.hostname not in _LOOPBACK,
        }

    def _message(self, model: str, given: Any, fields: Mapping[str, Any]) -> Message:
        return message(self._cards[model]["request"], model, given, fields)

    def _reply(self, model: str, response: httpx.Response, tries: int) -> Reply:
        card = self._cards[model]["card"]
        answer: Any = Values(response.json())
        try:
            workload = catalog.find_reference(card["workload"], card["reference"])
            answer = workload.answer.model_validate_json(response.content)
        except (PenstockError, ValidationError):
            pass  # not installed here, or another version of it: its values are as good
        headers = response.headers
        return Reply(answer, headers.get("X-Model", ""), headers.get("X-Request-Id", ""), tries)

    @staticmethod
    def _wire(method: str, message: Message) -> dict[str, Any]:
        """What httpx is told."""
        return {
            "method": method,
            "url": message.path,
            "content": message.content,
            "headers": dict(message.headers),
            "params": dict(message.query),
        }

    def _pause(self, got: httpx.Response | httpx.TransportError, tries: int, until: float) -> float:
        """Seconds to wait before the next try. RequestFailed where there should be none."""
        pause: float = min(_LONGEST_S, _PAUSE_S * 2 ** (tries - 1))
        if isinstance(got, httpx.Response):
            later = str(got.headers.get("Retry-After", ""))
            if got.status_code not in _AGAIN or (got.status_code != 502 and not later.isdecimal()):
                raise self._failure(got)
            pause = max(pause, float(later or 0))
        if pause >= until - time.monotonic():
            raise self._failure(got)
        return pause

    def _failure(self, got: httpx.Response | httpx.TransportError) -> RequestFailed:
        if not isinstance(got, httpx.Response):
            said = (str(got).splitlines() or [""])[0][:120] or type(got).__name__
            return RequestFailed(f"no endpoint answers at {self.url}: {said}; start one: penstock serve")
        try:
            problem: dict[str, Any] = got.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            problem, detail = {}, " ".join(got.text.split())[:200]
        return RequestFailed(f"{self.url} answered {got.status_code}: {detail}", got.status_code, problem)


def authorization(key: str | None = None) -> dict[str, str]:
    """The header that shows `key`, or the one that PENSTOCK_KEY holds; none where there is no key."""
    shown = key or os.environ.get("PENSTOCK_KEY")
    return {"Authorization": f"Bearer {shown}"} if shown else {}


def _values(value: Any) -> Any:
    if isinstance(value, dict):
        return Values(value)
    return [_values(one) for one in value] if isinstance(value, list) else value
