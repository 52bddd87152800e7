"""What every path to a model shares: which version answers, its bounded queue, deadline, second chance."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from fastapi import Request
from fastapi.requests import HTTPConnection
from pydantic import BaseModel, ValidationError

from penstock.serving import body as bodies
from penstock.serving.attempts import Attempts
from penstock.serving.calls import Lost, Models, Piece, Reply, Unavailable
from penstock.serving.limits import Limits
from penstock.serving.memory import Answered, Memory
from penstock.serving.metrics import Metrics
from penstock.serving.problems import Problem, invalid
from penstock.serving.versions.tally import Tally
from penstock.serving.versions.traffic import Traffic, Way

Got = TypeVar("Got", bound=Reply)
Told = TypeVar("Told", bound=BaseModel)
logger = logging.getLogger("penstock.access")
_RECORDS = 1000
_CLIENT = re.compile(r"[A-Za-z0-9._@-]{1,64}")


@dataclass
class Front:
    """`now`: how traffic goes, which may be another at each call; `tallies`: what came of it, by version."""

    now: Callable[[], Traffic]
    running: Models
    limits: Limits
    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    metrics: Metrics = field(default_factory=Metrics)
    attempts: Attempts = field(default_factory=Attempts)
    memory: Memory = field(default_factory=Memory)
    records: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """By version, those made of feedback that nobody has collected yet."""
    pass_on: Callable[[str, Any], None] | None = None
    """Where there are other gateways: tells them of feedback on an answer that is not known here."""

    def __post_init__(self) -> None:
        self.budget = bodies.Budget(self.limits.bodies_bytes)
        self._busy: defaultdict[str, int] = defaultdict(int)
        self.metrics.watch(lambda: self.attempts.repeated)

    def choose(self, reference: str, request: HTTPConnection) -> Way:
        """The version that answers this request; Problem 404 when none does."""
        way = self.now().choose(reference, client_of(request))
        request.state.model = way.model
        return way

    def room(self, way: Way) -> None:
        """Problem 503 where as many requests as may wait do so."""
        busy = self._busy[way.app]
        if busy >= self.limits.queue + self.limits.batch:
            raise Problem(
                503,
                f"{way.model.name} has {busy} requests waiting; try again",
                headers={"Retry-After": str(self.limits.retry_after_s)},
            )

    @asynccontextmanager
    async def body(self, most: int, request: Request) -> AsyncIterator[bytearray]:
        """The body, of `most` bytes at most; it counts as held until the block ends."""
        headers = request.headers
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            # a few bytes of gzip can become gigabytes
            raise Problem(
                415,
                "Content-Encoding is not taken; send the body as it is",
                headers={"Accept-Encoding": "identity"},
            )
        declared = headers.get("content-length")
        body = await bodies.read(aiter(request.stream()), declared, most, self.limits, self.budget)
        try:
            yield body
        finally:
            self.budget.held -= len(body)

    async def told(self, kind: type[Told], request: Request) -> Told:
        """The request's JSON as `kind`; Problem 400 where it is none, 422 with every field that is wrong."""
        async with self.body(self.limits.text_bytes, request) as body:
            try:
                return kind.model_validate(bodies.parse_json(body, self.limits.depth))
            except ValidationError as error:
                raise invalid(error) from None

    async def ask(self, reference: str, values: dict[str, Any], request: HTTPConnection) -> bytes:
        """The model's answer, JSON, within the request's deadline. `request.state.model` is the version that
        gave it.

        Problem 422 where the request is not valid or cannot be answered, 503 when the model is full or gone,
        504 when it takes too long, 500 for a fault of its own.
        """
        with self._turn(reference, values, request) as way:
            async with asyncio.timeout(self._left_s(request)):
                reply = await self.attempts.call(
                    way.model.title,
                    values,
                    lambda alone: self._reply(way, self.running.call(way.app, values, alone)),
                )
        self.tallies[way.model.title].count("fault" in reply, reply.get("seconds"))
        answer = answer_in(reply, request)
        self.memory.keep(request.headers["x-request-id"], Answered(way.app, way.model.title, answer))
        return answer

    async def judge(self, answered: Answered, truth: dict[str, Any], request: HTTPConnection) -> None:
        """Scores an earlier answer by the truth; Problem 422 when that cannot be done."""
        try:
            async with asyncio.timeout(self._left_s(request)):
                reply = await self.running.judge(answered.app, answered.answer, truth)
        except (TimeoutError, Unavailable):
            raise Problem(503, "the model is busy or gone; its answer stays unscored") from None
        self.scored(answered.title, answer_in(reply, request))

    def scored(self, title: str, record: bytes) -> None:
        """Keeps a record until it is collected."""
        waiting = self.records[title]
        waiting.append(record)
        del waiting[:-_RECORDS]
        self.tallies[title].labelled += 1

    async def position(self, reference: str, values: dict[str, Any], request: HTTPConnection) -> bytes:
        """How a board game stands, JSON; raises as `ask` does."""
        with self._turn(reference, values, request) as way:
            async with asyncio.timeout(self._left_s(request)):
                reply = await self.attempts.call(
                    way.model.title, values, lambda alone: self.running.position(way.app, values)
                )
        return answer_in(reply, request)

    async def stream(
        self, reference: str, values: dict[str, Any], request: HTTPConnection
    ) -> AsyncIterator[str | bytes]:
        """The answer as it comes: texts, then the whole of it as JSON bytes. Raises as `ask` does; another
        replica is asked only before the first piece."""
        with self._turn(reference, values, request) as way:
            title = way.model.title

            async def begin(alone: bool) -> tuple[AsyncIterator[Piece], Piece]:
                pieces = self.running.stream(way.app, values)
                return pieces, await self._reply(way, anext(pieces))

            async with asyncio.timeout(self._left_s(request)):
                pieces, piece = await self.attempts.call(title, values, begin)
            async with aclosing(pieces):  # type: ignore[type-var]
                while "text" in piece:
                    yield piece["text"]
                    # no timeout around a yield: what comes after it may run in another task
                    piece = await asyncio.wait_for(anext(pieces), self._left_s(request))
        self.tallies[title].count("fault" in piece)
        yield answer_in(piece, request)

    # ---------------------------------------------------------------- parts of it

    @contextmanager
    def _turn(self, reference: str, values: dict[str, Any], request: HTTPConnection) -> Iterator[Way]:
        """A place in the queue of the version that answers; what goes wrong in the block, as Problems."""
        limits = self.limits
        way = self.choose(reference, request)  # not before: reading a body takes time
        checked(way, values)
        self.room(way)
        name = way.model.name
        self._step(way, +1)
        try:
            yield way
        except TimeoutError:
            self.tallies[way.model.title].count(fault=True)
            raise Problem(504, f"{name} had no answer within {limits.deadline_s:g} s") from None
        except Unavailable as error:
            if isinstance(error, Lost):
                self.tallies[way.model.title].count(fault=True)
            later = error.retry_after_s
            headers = {"Retry-After": f"{later or limits.retry_after_s:.0f}"}
            detail = f"{name} {error}" + ("" if later else "; try again")
            raise Problem(503, detail, headers=headers) from None
        finally:
            self._step(way, -1)

    def _left_s(self, request: HTTPConnection) -> float:
        began: float = request.scope["state"]["began"]
        return max(0.0, self.limits.deadline_s - (monotonic() - began))

    async def _reply(self, way: Way, coming: Awaitable[Got]) -> Got:
        reply = await coming
        if reply.get("model", way.model.title) != way.model.title:
            # it waited so long that its slot holds another version by now
            raise Lost("was replaced while the request waited", working=False)
        return reply

    def _step(self, way: Way, by: int) -> None:
        self._busy[way.app] += by
        self.metrics.in_flight(way.model.title, self._busy[way.app])


def checked(way: Way, values: dict[str, Any]) -> None:
    """Problem 422 with every field that is wrong."""
    try:
        way.model.workload.request.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None


def answer_in(reply: Reply, request: HTTPConnection) -> bytes:
    """The answer's JSON; Problem 422 for a refusal, 500 for a fault, which only the log hears of."""
    if "answer" in reply:
        return reply["answer"]
    if "refusal" in reply:
        raise Problem(422, reply["refusal"][0][1], reply["refusal"])
    logger.error(
        json.dumps({"event": "fault", "id": request.headers["x-request-id"], "what": reply["fault"]})
    )
    raise Problem(500, "the model failed on this request; its id finds it in the log")


def client_of(request: HTTPConnection) -> str:
    """By what a candidate's share is drawn: the client's own X-Client-Id, its key, or else each request
    alone."""
    said: str = request.headers.get("x-client-id", "")
    if not _CLIENT.fullmatch(said):
        said = request.scope["state"].get("client") or request.headers["x-request-id"]
    return said
