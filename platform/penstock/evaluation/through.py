"""The test items sent to a live endpoint, as a client would: every one over HTTP, answers in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from penstock.client import authorization
from penstock.errors import PenstockError, RunFailed
from penstock.workload import Refusal

if TYPE_CHECKING:
    import httpx

PARALLEL = 4  # requests on their way at once
TIMEOUT_S = 60.0
PATIENCE_S = 60.0  # how long an endpoint may say "later" to one request
COUNTED_S = 10.0  # how long a counter may take to show what was answered
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Endpoint:
    """A live endpoint that serves one version of a model."""

    def __init__(
        self, client: httpx.Client, url: str, name: str, version: int, answer: type[BaseModel]
    ) -> None:
        self.client, self.url, self.answer = client, url, answer
        self.name, self.version = name, version

    def check(self) -> None:
        """PenstockError in one line unless exactly this version is served here."""
        import httpx

        try:
            found = self.client.get(f"/v1/models/{self.name}@{self.version}")
        except httpx.HTTPError as error:
            raise PenstockError(
                f"no endpoint answers at {self.url} ({reason(error)}); start one: penstock serve {self.name}"
            ) from None
        if found.status_code != 200:
            raise PenstockError(f"{self.url} does not serve {self.name}@{self.version}: {detail(found)}")

    def ask(self, request: BaseModel) -> Any | Refusal:
        """The answer to one request, or the Refusal that HTTP 422 stands for. RunFailed when the endpoint
        fails, answers with another version, or says something that is no answer."""
        got = self.send(request.model_dump_json().encode())
        if got.status_code == 422:
            return Refusal(detail(got))
        if got.status_code != 200:
            raise RunFailed(f"{self.url} answered {got.status_code}: {detail(got)}")
        said, wanted = got.headers.get("X-Model"), f"{self.name}@{self.version}"
        if said != wanted:
            raise RunFailed(f"{self.url} answered as {said or 'nobody'}, not as {wanted}")
        try:
            return self.answer.model_validate_json(got.content)
        except ValidationError as error:
            first = error.errors()[0]
            wanted = self.answer.__name__
            raise RunFailed(f"{self.url} sent something else than a {wanted}: {first['msg']}") from None

    def send(self, body: bytes) -> httpx.Response:
        """One POST; an endpoint that is full says when to come again, and gets it then."""
        import httpx

        path = f"/v1/models/{self.name}@{self.version}/predict"
        began = time.monotonic()
        while True:
            try:
                got = self.client.post(path, content=body, headers={"Content-Type": "application/json"})
            except httpx.HTTPError as error:
                raise RunFailed(f"{self.url} broke off ({reason(error)})") from None
            later = got.headers.get("Retry-After", "")
            waited = time.monotonic() - began
            if got.status_code not in (429, 503) or not later.isdecimal() or waited > PATIENCE_S:
                return got
            time.sleep(max(0.05, float(later)))

    def counter(self) -> int:
        """How many requests for this model the endpoint has answered, by its own count."""
        import httpx
        from prometheus_client.parser import text_string_to_metric_families

        try:
            got = self.client.get("/metrics")
        except httpx.HTTPError as error:
            raise RunFailed(f"{self.url}/metrics broke off ({reason(error)})") from None
        if got.status_code != 200:
            raise RunFailed(f"{self.url}/metrics answered {got.status_code}: {detail(got)}")
        return round(
            sum(
                sample.value
                for family in text_string_to_metric_families(got.text)
                for sample in family.samples
                if sample.name == "penstock_requests_total"
                and sample.labels.get("model", "").partition("@")[0] == self.name
            )
        )

    def counter_reaches(self, count: int) -> int:
        """The counter once it is `count` or more, or what it is after COUNTED_S: a request may be counted a
        moment after its answer was sent."""
        deadline = time.monotonic() + COUNTED_S
        while (now := self.counter()) < count and time.monotonic() < deadline:
            time.sleep(0.1)
        return now


@contextmanager
def connect(url: str, name: str, version: int, answer: type[BaseModel]) -> Iterator[Endpoint]:
    """The endpoint at `url`, which serves `name`@`version`; PenstockError in one line when it does not."""
    import httpx

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PenstockError(f"{url!r} is not the URL of an endpoint; write http://127.0.0.1:8000")
    limits = httpx.Limits(max_connections=PARALLEL, max_keepalive_connections=PARALLEL)
    # a proxy that the environment names is for the world outside, not for this machine
    outside = parts.hostname not in LOOPBACK
    with httpx.Client(
        base_url=url.rstrip("/"),
        timeout=TIMEOUT_S,
        limits=limits,
        trust_env=outside,
        headers=authorization(),
    ) as client:
        endpoint = Endpoint(client, url.rstrip("/"), name, version, answer)
        endpoint.check()
        yield endpoint


def replay(endpoint: Endpoint, parts: Iterable[Sequence[BaseModel]]) -> list[Any | Refusal]:
    """One answer per request, in order, PARALLEL requests at a time."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [answer for requests in parts for answer in pool.map(endpoint.ask, requests)]


def reason(error: httpx.HTTPError) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text[:120] or type(error).__name__


def detail(response: httpx.Response) -> str:
    """What a problem document says, or the beginning of whatever came."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = response.text
    return " ".join(str(said).split())[:200] or f"status {response.status_code}"
