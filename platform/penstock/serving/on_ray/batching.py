"""A predictor behind a queue: what waits while a batch is computed becomes the next batch.

Not `serve.batch`: that one cuts its batches by the clock while another is being computed, so a busy
model gets many small ones; and it has had several ways of standing still after a client hung up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

from pydantic import BaseModel

from penstock.serving.calls import Reply
from penstock.serving.limits import Limits
from penstock.workload import Predictor, Refusal

T = TypeVar("T")


class Batcher:
    """Every request gets a Reply, whatever the predictor does to itself or to its neighbours."""

    def __init__(self, predictor: Predictor[Any, Any], limits: Limits) -> None:
        self._predictor = predictor
        self._limits = limits
        # one thread: the event loop stays free for health checks while the model computes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._waiting: deque[tuple[BaseModel, asyncio.Future[Reply]]] = deque()
        self._filled = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._since: float | None = None  # when the batch being computed began

    async def ask(self, request: BaseModel) -> Reply:
        """The reply to one valid request, computed together with those that wait beside it. Cancelling
        takes it out of the queue; a batch already begun goes on without it."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._filled.set()
        return await future

    async def run(self, what: Callable[[], T]) -> T:
        """What `what` returns, computed between two batches, in the thread that computes them."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    def now(self, request: BaseModel) -> Reply:
        """The reply to one request, at once and alone."""
        return self._replies([request])[0]

    def check(self) -> None:
        """RuntimeError when a batch has been computed for too long, or nothing takes batches any more:
        Serve then replaces the replica."""
        if self._worker and self._worker.done():
            raise RuntimeError("batches are not taken any more")
        if self._since is not None and monotonic() - self._since > self._limits.stuck_s:
            raise RuntimeError(f"a batch is not finished after {self._limits.stuck_s:g} s")

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            if len(self._waiting) < self._limits.batch and self._limits.batch_wait_s:
                await asyncio.sleep(self._limits.batch_wait_s)
            batch = self._take()
            if not batch:
                continue
            self._since = began = monotonic()
            replies = await loop.run_in_executor(self._thread, self._replies, [one for one, _ in batch])
            self._since = None
            seconds = (monotonic() - began) / len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result({**reply, "seconds": seconds})

    def _take(self) -> list[tuple[BaseModel, asyncio.Future[Reply]]]:
        batch: list[tuple[BaseModel, asyncio.Future[Reply]]] = []
        while self._waiting and len(batch) < self._limits.batch:
            request, future = self._waiting.popleft()
            if not future.done():  # its client is still there
                batch.append((request, future))
        if not self._waiting:
            self._filled.clear()
        return batch

    def _replies(self, requests: Sequence[BaseModel]) -> list[Reply]:
        # must not raise: an exception here would be everybody's answer
        try:
            answers = self._predictor.predict(requests)
            if len(answers) != len(requests):
                raise ValueError(f"{len(answers)} answers to {len(requests)} requests")
            return [reply_of(answer) for answer in answers]
        except Exception as error:
            if len(requests) > 1:
                # whichever request it was, the others get their answers
                return [self.now(request) for request in requests]
            return [Reply(fault=f"{type(error).__name__}: {error}"[:1000])]


def reply_of(answer: BaseModel | Refusal) -> Reply:
    """What a predictor said, as it travels."""
    if isinstance(answer, Refusal):
        return Reply(refusal=[(answer.pointer, answer.detail)])
    return Reply(answer=answer.model_dump_json().encode())
